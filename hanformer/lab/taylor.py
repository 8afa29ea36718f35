"""Even Taylor polynomials of exp never reach 0: their minima, and the weights that they give.

偶数阶泰勒多项式恒为正：最小值与由它得到的权重。

Source: kexue.fm/archives/7919; the proof stands in docs/theory/taylor.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.nn.functional.normalisers import TaylorSoftmax, minimum_place, polynomial


@dataclass(frozen=True)
class Options:
    """The largest even order shown, and how far to the left the curves go. 最高阶数与横轴范围。"""

    order: int = 10
    reach: float = 5.0

    def __post_init__(self) -> None:
        if not 2 <= self.order <= 20 or self.order % 2 or self.reach <= 0:
            raise UserError(
                f"lab taylor: expected an even order from 2 to 20 and a reach above 0, "
                f"got {self.order} and {self.reach}"
            )


def minima(order: int) -> list[tuple[int, float, float]]:
    """Each even order up to the given one, its x* and f_n(x*). 各偶数阶的最小值点与最小值。"""
    found = []
    for even in range(2, order + 1, 2):
        place = minimum_place(even)
        found.append((even, place, float(polynomial(torch.tensor(place, dtype=torch.float64), even))))
    return found


def run(out: Path, options: Options) -> Report:
    """Finds the minima and draws the polynomials and their weights. 求最小值并画图。"""
    rows = tuple(
        (str(order), f"{place:.5f}", f"{value:.6f}", f"{abs(value - _closed(place, order)):.0e}")
        for order, place, value in minima(options.order)
    )
    return Report(
        "Even Taylor softmax · 偶数阶泰勒 softmax",
        (
            "At its minimum x* an even polynomial equals x*ⁿ/n!, which is above 0; odd ones fall below 0.",
            "偶数阶多项式在最小值点 x* 处等于 x*ⁿ/n!，恒为正；奇数阶会变负。",
        ),
        (Table("Minima · 最小值", ("n", "x*", "fₙ(x*)", "away from x*ⁿ/n!"), rows),),
        (
            Picture(
                "taylor", "Polynomials, and the weight of one logit x beside another of 0.", _draw(options)
            ),
        ),
    )


def _closed(place: float, order: int) -> float:
    """x*ⁿ/n!."""
    value = 1.0
    for m in range(1, order + 1):
        value *= place / m
    return value


def _draw(options: Options) -> Any:
    picture = figure(9, 3.4)
    curves, weights = picture.subplots(1, 2)
    x = torch.linspace(-options.reach, 2.0, 401, dtype=torch.float64)
    for order in (1, 2, 3, 4, 6):
        curves.plot(
            x, polynomial(x, order), label=f"n = {order}", linewidth=1.2, linestyle="--" if order % 2 else "-"
        )
    curves.plot(x, x.exp(), color="#222", label="exp", linewidth=1.2)
    curves.axhline(0, color="#888", linewidth=0.8)
    curves.set(xlabel="x", ylim=(-2, 5), title="Σ xᵐ/m!")
    curves.legend(fontsize=8)
    logits = torch.linspace(-8, 8, 401, dtype=torch.float64)
    for order in (2, 4, 6):
        weights.plot(logits, beside_zero(logits, order), label=f"n = {order}", linewidth=1.2)
    weights.plot(logits, logits.sigmoid(), color="#222", label="softmax", linewidth=1.2)
    weights.set(xlabel="x", title="weight of x beside 0")
    weights.legend(fontsize=8)
    tidy((curves, weights))
    return picture


def beside_zero(logits: Tensor, order: int) -> Tensor:
    """The weight of each logit of two, the other one 0. 两个 logit（另一个为 0）时的权重。"""
    return TaylorSoftmax(order)(torch.stack([logits, torch.zeros_like(logits)], -1))[..., 0]
