"""Sinusoidal and rotary positions: inner products that know the distance alone, and how they decay.

正弦位置与旋转位置：内积只依赖相对距离，并随距离衰减。

Source: kexue.fm/archives/8231 and 8265.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.nn.functional.positions import BASE, rotary_table, sinusoidal

#: Beyond, the midpoints of the integral no longer follow its waves.
_FARTHEST = 10_000


@dataclass(frozen=True)
class Options:
    """`size` channels, distances up to `distance`, the `base` of the frequencies. 维度、最大距离与底数。"""

    size: int = 128
    distance: int = 256
    base: float = BASE

    def __post_init__(self) -> None:
        if self.size < 2 or self.size % 2 or not 1 <= self.distance <= _FARTHEST or self.base <= 1:
            raise UserError(
                f"lab positions: expected an even size, a distance from 1 to {_FARTHEST:,} and a base above 1, "
                f"got {self.size}, {self.distance}, {self.base}"
            )


def inner_products(options: Options) -> Tensor:
    """⟨p_0, p_m⟩ / (d/2) = mean_i cos(m θ_i) for m up to the distance: [distance + 1].

    正弦位置向量的归一化内积。
    """
    code = sinusoidal(torch.arange(options.distance + 1), options.size, options.base, torch.float64)
    return code @ code[0] / (options.size / 2)


def integral(options: Options, points: int = 20_000) -> Tensor:
    """∫₀¹ cos(m · base^(−t)) dt by the midpoint rule, the limit of many channels: [distance + 1].

    维度趋于无穷时的极限。
    """
    middle = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    frequencies = options.base**-middle
    return torch.stack([(m * frequencies).cos().mean() for m in range(options.distance + 1)])


def rotary_bounds(options: Options) -> Tensor:
    """mean_j |Σ_{i<j} exp(i·m·θ_i)| for m up to the distance: what bounds a rotary inner product: [distance + 1].

    旋转位置内积的上界随距离的衰减。

    By Abel's summation |⟨R_m q, k⟩| ≤ max_i |h_{i+1} − h_i| · Σ_j |S_j|, h_i the product of the i-th pairs.
    """
    table = rotary_table(torch.arange(options.distance + 1), options.size, options.base, torch.float64)
    return torch.complex(table[:, 0], table[:, 1]).cumsum(-1).abs().mean(-1)


def run(out: Path, options: Options) -> Report:
    """Both curves, and the sinusoidal inner products of two sets of positions. 画出两条曲线。"""
    products, limit, bounds = inner_products(options), integral(options), rotary_bounds(options)
    shown = [m for m in (0, 1, 8, 32, 128, 256, 512, 1024) if m <= options.distance]
    rows = tuple((str(m), f"{products[m]:.5f}", f"{limit[m]:.5f}", f"{bounds[m]:.3f}") for m in shown)
    head = ("distance m", "mean cos(mθ)", "its integral", "mean |S_j|")
    return Report(
        "Positions: products that know the distance alone · 位置编码的内积与衰减",
        (
            f"{options.size} channels, base {options.base:g}. Sinusoidal codes have the inner product of their "
            "distance, and rotary ones the bound beside it.",
            "正弦编码的内积只依赖距离；旋转编码的内积受右图所示的量控制。",
        ),
        (Table("Decay with distance · 随距离衰减", head, rows),),
        (
            Picture(
                "positions",
                "Sinusoidal products, and the bound of rotary ones.",
                _draw(products, limit, bounds),
            ),
        ),
    )


def _draw(products: Tensor, limit: Tensor, bounds: Tensor) -> object:
    picture = figure()
    left, right = picture.subplots(1, 2)
    distances = range(len(products))
    left.plot(distances, products, color="#31688e", linewidth=1.2, label="channels given")
    left.plot(distances, limit, color="#888", linewidth=1, linestyle="--", label="integral")
    left.set(xlabel="distance", ylabel="mean cos(mθ)", title="Sinusoidal inner products")
    left.legend(fontsize=8)
    right.plot(distances, bounds, color="#b5442e", linewidth=1.2)
    right.set(xlabel="distance", ylabel="mean |S_j|", title="Bound of rotary products")
    tidy((left, right))
    return picture
