"""Normalisers beside softmax: what makes weights of logits whose hidden entries are -inf."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hanformer.errors import UserError


@dataclass(frozen=True)
class TaylorSoftmax:
    """f_n(x_i) / Σ_j f_n(x_j) with f_n(x) = Σ_{m ≤ n} x^m / m!: for even n a distribution, whatever the logits.

    偶数阶泰勒 softmax：用泰勒多项式代替 exp，偶数阶恒为正。

    Logits [..., K]; a hidden entry (-inf) weighs 0, and a row with nothing visible is all 0. It is computed in float32
    at least, and with logits divided by the largest, so that no power overflows. f_n falls left of its minimum x*;
    `monotone` puts f_n(max(x, x*)) in its place. Raises UserError for an odd order.
    Source: de Brébisson and Vincent 2016, arXiv 1511.05042; kexue.fm/archives/7919.
    """

    order: int = 2
    monotone: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or self.order < 2 or self.order % 2:
            raise UserError(
                f"taylor softmax: expected an even order of at least 2 (odd ones are negative somewhere), "
                f"got {self.order!r}"
            )

    def __call__(self, logits: Tensor) -> Tensor:
        """Weights of the same shape and dtype."""
        found, _ = self._values(logits)
        below = found.sum(-1, keepdim=True)
        return (found / below.masked_fill(below == 0, 1.0)).to(logits.dtype)

    def log(self, logits: Tensor) -> Tensor:
        """log of the weights, in float32 at least. 权重的对数。"""
        found, hidden = self._values(logits)
        below = found.sum(-1, keepdim=True)
        seen = found.masked_fill(hidden, 1.0).log() - below.masked_fill(below == 0, 1.0).log()
        return seen.masked_fill(hidden, float("-inf"))

    def _values(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """f_n(x) / s^n, s ≥ 1 the largest |x| of the row; and what is hidden."""
        x = logits.to(torch.promote_types(logits.dtype, torch.float32))
        hidden = x.isneginf()
        x = x.masked_fill(hidden, 0.0)
        if self.monotone:
            x = x.clamp_min(self.minimum)
        largest = x.detach().abs().amax(-1, keepdim=True) if x.shape[-1] else x.new_ones(*x.shape[:-1], 1)
        return polynomial(x, self.order, largest.clamp_min(1.0)).masked_fill(hidden, 0.0), hidden

    @cached_property
    def minimum(self) -> float:
        """x*, the place of the minimum of f_n. f_n 的最小值点。"""
        return minimum_place(self.order)


def polynomial(x: Tensor, order: int, scale: Tensor | float = 1.0) -> Tensor:
    """Σ_{m ≤ order} x^m / m!, divided by scale^order: x / scale is multiplied, so that no power overflows.

    泰勒多项式（秦九韶法），除以 scale 的 order 次方。
    """
    y, inverse = x / scale, 1 / torch.as_tensor(scale, dtype=x.dtype, device=x.device)
    # From the highest power down: after step m it is Σ_{i ≥ m} y^(i-m) inverse^(order-i) m! / i!.
    found = torch.ones_like(y)
    power = torch.ones_like(inverse)
    for m in range(order, 0, -1):
        power = power * inverse
        found = power + y * found / m
    return found


def minimum_place(order: int) -> float:
    """The real root of f_{n-1}, where f_n is least, by bisection: it lies between -n and 0.

    偶数阶泰勒多项式最小值点（f_{n-1} 的实根）。
    """
    low, high = -float(order), 0.0
    for _ in range(80):
        middle = (low + high) / 2
        negative = float(polynomial(torch.tensor(middle, dtype=torch.float64), order - 1)) < 0
        low, high = (middle, high) if negative else (low, middle)
    return (low + high) / 2
