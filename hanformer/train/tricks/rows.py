"""Rows of a batch whose tokens are embedded: what one example's part of a perturbation is, and how long."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hanformer.nn.functional.packing import Layout
from hanformer.train.losses.numerics import widened


@dataclass(frozen=True, eq=False)
class Rows:
    """To which example of the batch each embedded token belongs.

    每个词元所属的样本。

    `of_token` int64, of the shape of the token ids; `lengths`, how many tokens each example has: one entry an
    example.
    """

    of_token: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of_layout(cls, layout: Layout) -> Rows:
        """The rows of a packed batch."""
        return cls(layout.row_of_token, layout.lengths)

    @classmethod
    def of_first_axis(cls, embedded: Tensor) -> Rows:
        """Embedded ids [B, ..., E]: every entry of the first axis is an example."""
        shape = embedded.shape[:-1]
        numbers = torch.arange(shape[0], device=embedded.device)
        of_token = numbers.view(-1, *[1] * (len(shape) - 1)).expand(shape)
        return cls(of_token, (shape[1:].numel(),) * shape[0])

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.lengths)

    @cached_property
    def offsets(self) -> Tensor:
        """Where each example begins on the axis of all tokens: int64 [B]."""
        lengths = torch.tensor(self.lengths, dtype=torch.int64)
        return (lengths.cumsum(0) - lengths).to(self.of_token.device)

    def norms(self, values: Tensor) -> Tensor:
        """The L2 norm of each example's values [..., E], all its tokens together: [B], float32 at least."""
        squares = widened(values).square().sum(-1).flatten()
        return squares.new_zeros(self.count).index_add(0, self.of_token.flatten(), squares).sqrt()

    def times(self, values: Tensor, factors: Tensor) -> Tensor:
        """Every example's values [..., E] multiplied by its factor of [B], in the format of the values."""
        return values * factors[self.of_token][..., None].to(values.dtype)


def unit(values: Tensor, rows: Rows) -> Tensor:
    """Every example's values divided by their norm; an example of zeros stays as it is. [..., E] to the same.

    逐样本单位化。
    """
    norms = rows.norms(values)
    return rows.times(values, torch.where(norms > 0, 1 / norms, 0.0))


def signs(values: Tensor, rows: Rows) -> Tensor:
    """The sign of every entry, the direction of FGSM. [..., E] to the same. 逐元素取符号。"""
    return values.sign()


def unchanged(values: Tensor, rows: Rows) -> Tensor:
    """The values as they are. [..., E] to the same. 不做归一化。"""
    return values


def within(values: Tensor, rows: Rows, radius: float) -> Tensor:
    """Every example's values, shortened to the radius where their norm exceeds it. [..., E] to the same.

    逐样本投影到半径之内。
    """
    norms = rows.norms(values)
    return rows.times(values, torch.where(norms > radius, radius / norms, 1.0))
