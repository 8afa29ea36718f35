"""GELU's two approximations: their constants found again, and how far they stand from the exact form.

GELU 两种近似的常数从何而来，以及误差有多大。

Source: kexue.fm/archives/7309; Hendrycks and Gimpel 2016, arXiv 1606.08415.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.nn.functional.activations import SIGMOID_SLOPE, TANH_COEFFICIENT, gelu_tanh_by_definition

_SLOPE = math.sqrt(2 / math.pi)
#: The coefficient of x³ that fits erf at 0 to the third order, (4 − π)/(6π): the series of both sides, compared.
LOCAL_COEFFICIENT = (4 - math.pi) / (6 * math.pi)

#: The largest errors stand at 2.3 to 2.7, and are a unit or so wide.
_LEAST_REACH, _LEAST_DENSITY = 3.0, 15


@dataclass(frozen=True)
class Options:
    """The grid on which errors are read: `points` from 0 to `reach`. 误差所取的网格。"""

    points: int = 20_001
    reach: float = 6.0

    def __post_init__(self) -> None:
        if self.points < 100 or self.reach < _LEAST_REACH or self.points < _LEAST_DENSITY * self.reach:
            raise UserError(
                f"lab gelu: expected a reach of {_LEAST_REACH:g} or more, and at least 100 points, {_LEAST_DENSITY} "
                "for each unit of it, or the largest errors lie between or beyond them; "
                f"got {self.reach:g} and {self.points}"
            )


@dataclass(frozen=True)
class Constants:
    """What the search found, with the largest error of each. 求得的常数与各自的最大误差。"""

    tanh: float
    tanh_error: float
    sigmoid: float
    sigmoid_error: float
    direct: float
    direct_error: float


def cumulative(x: Tensor) -> Tensor:
    """Φ(x) = (1 + erf(x/√2))/2. 标准正态分布函数。"""
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def tanh_error(x: Tensor, coefficient: float) -> Tensor:
    """erf(x/√2) − tanh(√(2/π)(x + c·x³)). tanh 近似的误差。"""
    return torch.erf(x / math.sqrt(2)) - torch.tanh(_SLOPE * (x + coefficient * x**3))


def sigmoid_error(x: Tensor, slope: float) -> Tensor:
    """Φ(x) − σ(λx). sigmoid 近似的误差。"""
    return cumulative(x) - torch.sigmoid(slope * x)


def gelu_error(x: Tensor, coefficient: float) -> Tensor:
    """GELU(x) − its tanh form. GELU 本身的误差。"""
    return x * cumulative(x) - gelu_tanh_by_definition(x, coefficient)


def least_maximum(
    error: Callable[[Tensor, float], Tensor], grid: Tensor, low: float, high: float
) -> tuple[float, float]:
    """The parameter that makes max|error| over the grid least, and that maximum; the objective has one valley.

    使最大误差最小的参数及该误差；目标函数单谷。

    Golden-section search. Errors are odd or even, so the grid needs only x ≥ 0.
    """
    share = (math.sqrt(5) - 1) / 2

    def height(parameter: float) -> float:
        return float(error(grid, parameter).abs().max())

    for _ in range(70):
        left, right = high - share * (high - low), low + share * (high - low)
        if height(left) < height(right):
            high = right
        else:
            low = left
    best = (low + high) / 2
    return best, height(best)


def find_constants(options: Options) -> Constants:
    """Both published constants, and the one that would serve GELU itself best. 求出各常数。"""
    grid = torch.linspace(0, options.reach, options.points, dtype=torch.float64)
    tanh = least_maximum(tanh_error, grid, 0.04, 0.05)
    sigmoid = least_maximum(sigmoid_error, grid, 1.6, 1.8)
    return Constants(*tanh, *sigmoid, *least_maximum(gelu_error, grid, 0.04, 0.05))


def run(out: Path, options: Options) -> Report:
    """Finds the constants and draws the errors. 求常数并画误差。"""
    found = find_constants(options)
    head = ("constant", "found", "in use", "largest error")
    rows = (
        ("x³ in tanh, against erf", f"{found.tanh:.9f}", f"{TANH_COEFFICIENT}", f"{found.tanh_error:.4e}"),
        ("λ in σ(λx), against Φ", f"{found.sigmoid:.7f}", f"{SIGMOID_SLOPE}", f"{found.sigmoid_error:.4e}"),
        ("x³ in tanh, against GELU", f"{found.direct:.7f}", "nowhere", f"{found.direct_error:.4e}"),
        ("x³ by the series at 0", f"{LOCAL_COEFFICIENT:.7f}", "nowhere", _local_error(options)),
    )
    return Report(
        "GELU: where 0.044715 and 1.702 come from · GELU 的两个常数",
        (
            "Both make the largest error least: that of the series at 0 is larger, though it is better near 0.",
            "两个常数都使最大误差最小；在零点展开得到的系数在原点附近更准，但最大误差更大。",
        ),
        (Table("Constants · 常数", head, rows),),
        (
            Picture(
                "gelu",
                "Errors, and the largest one against the constant.",
                _draw(options),
            ),
        ),
    )


def _local_error(options: Options) -> str:
    grid = torch.linspace(0, options.reach, options.points, dtype=torch.float64)
    return f"{float(tanh_error(grid, LOCAL_COEFFICIENT).abs().max()):.4e}"


def _draw(options: Options) -> object:
    picture = figure(10, 3.4)
    near, far, valley = picture.subplots(1, 3)
    x = torch.linspace(-options.reach, options.reach, 801, dtype=torch.float64)
    for coefficient, name in ((TANH_COEFFICIENT, "0.044715"), (LOCAL_COEFFICIENT, "0.045540")):
        near.plot(x, gelu_error(x, coefficient), label=f"tanh, {name}", linewidth=1.2)
    near.set(xlabel="x", ylabel="GELU − approximation", title="tanh form", ylim=(-8e-4, 6.5e-4))
    near.legend(fontsize=8, loc="upper center")
    far.plot(x, x * sigmoid_error(x, SIGMOID_SLOPE), color="#b5442e", linewidth=1.2)
    far.set(xlabel="x", title="sigmoid form, 1.702")
    grid = torch.linspace(0, options.reach, 2001, dtype=torch.float64)
    coefficients = torch.linspace(0.0435, 0.0465, 121, dtype=torch.float64).tolist()
    valley.plot(coefficients, [float(tanh_error(grid, c).abs().max()) for c in coefficients], color="#3a8f5c")
    valley.axvline(TANH_COEFFICIENT, color="#888", linewidth=0.8)
    valley.set(xlabel="coefficient of x³", title="max |erf − tanh|")
    tidy((near, far, valley))
    return picture
