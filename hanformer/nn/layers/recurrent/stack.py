"""Recurrent layers upon each other, with the dropouts between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.nn.layers.recurrent.cell import RecurrentCell, State
from hanformer.nn.layers.recurrent.regularise import LockedDropout, WeightDrop


@dataclass(frozen=True, eq=False)
class StackOutput:
    """What a stack computed: the last layer's outputs after dropout, all layers' outputs before it, and last states.

    循环堆叠的输出：失活后的末层输出、各层失活前的输出与末状态。

    `outputs` [L, B, D], `raw` one [L, B, D_l] a layer.
    """

    outputs: Tensor
    raw: tuple[Tensor, ...]
    states: tuple[State, ...]


class RecurrentStack(nn.Module):
    """Recurrent cells upon each other, with locked dropout before, between and after them, and weight drop inside.

    循环层堆叠，带变分失活与循环权重失活。

    Shapes: x [L, B, I] to outputs [L, B, D] of the last layer. In evaluation there is no dropout, and the recurrent
    matrices are scaled by 1 - weight_drop.
    Raises UserError for no layers, or layers whose sizes do not follow each other.
    Source: Merity et al. 2018, arXiv 1708.02182.
    """

    def __init__(
        self,
        cells: Sequence[RecurrentCell],
        *,
        input_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        output_dropout: float = 0.0,
        weight_drop: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [(below.hidden_size, above.input_size) for below, above in pairwise(cells)]
        if not cells or any(given != taken for given, taken in sizes):
            raise UserError(f"expected layers that take what the one below gives, got sizes {sizes}")
        self.cells = nn.ModuleList(cells)
        rates = [input_dropout, *[hidden_dropout] * (len(cells) - 1)]
        self.before = nn.ModuleList(LockedDropout(rate) for rate in rates)
        self.after = LockedDropout(output_dropout)
        self.weight_drop = WeightDrop(weight_drop)

    @property
    def layers(self) -> list[RecurrentCell]:
        """The cells, from the first to the last."""
        return [cell for cell in self.cells if isinstance(cell, RecurrentCell)]

    def first_states(self, batch: int) -> tuple[State, ...]:
        """Zeros for every layer. 各层的初始状态。"""
        return tuple(cell.first_state(batch) for cell in self.layers)

    def weight(self, cell: RecurrentCell) -> Tensor:
        """The recurrent matrix that a sequence runs with: partly dropped, or scaled. 本段所用的循环矩阵。"""
        dropped: Tensor = self.weight_drop(cell.recurrent.weight)
        return dropped

    def forward(self, x: Tensor, states: Sequence[State] | None = None) -> StackOutput:
        """Runs all layers over x [L, B, I]. 逐层运行。"""
        states = self.first_states(x.shape[1]) if states is None else states
        raw, last = [], []
        for cell, dropout, state in zip(self.layers, self.before, states, strict=True):
            x, state = cell(dropout(x), state, self.weight(cell))
            raw.append(x)
            last.append(state)
        return StackOutput(self.after(x), tuple(raw), tuple(last))

    @torch.no_grad()
    def fold_weight_drop(self) -> None:
        """Puts the scale of evaluation into the matrices, so that single steps need not compute it again and again.

        把评估时的缩放并入权重，加快逐步解码；之后不应再训练。
        """
        for cell in self.layers:
            cell.recurrent.weight.mul_(1 - self.weight_drop.rate)
        self.weight_drop.rate = 0.0
