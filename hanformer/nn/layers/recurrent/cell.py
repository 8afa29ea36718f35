"""What every recurrent cell is: one step as its definition, and a form that runs over whole sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from hanformer.errors import UserError

State = tuple[Tensor, ...]
"""What a cell hands from step to step: tensors [B, D], the hidden state h first.

逐步传递的状态：若干 [B, D] 张量，首个为 h。
"""


class RecurrentCell(nn.Module, ABC):
    """state_t = advance(W x_t + b, state_{t-1}, U), of which the first part h_t is the output.

    循环单元的统一形式：输入投影一次算完，循环只走状态。

    Shapes: time comes first, x [L, B, input_size] to outputs [L, B, hidden_size], so that every step is one
    block of memory. `parts` is the number of tensors in a state, `gates` the number of blocks of `hidden_size`
    rows in W and U. A subclass gives `advance`, the definition; it may give a faster `scan`.
    Raises UserError for sizes below 1.
    """

    parts: ClassVar[int] = 1
    gates: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, *, more_rows: int = 0, recurrent_bias: bool = False
    ) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise UserError(f"expected sizes of at least 1, got input {input_size} and hidden {hidden_size}")
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.gates * hidden_size + more_rows
        self.input = nn.Linear(input_size, rows)
        self.recurrent = nn.Linear(hidden_size, rows, bias=recurrent_bias)

    @abstractmethod
    def advance(self, projected: Tensor, state: State, weight: Tensor) -> State:
        """One step: `projected` [B, rows] is W x + b, `weight` [rows, D] is U. 一步递推（定义）。"""

    def scan(self, x: Tensor, state: State, weight: Tensor) -> tuple[Tensor, State]:
        """All steps of x [L, B, I]: outputs [L, B, D] and the last state. 整段序列的递推。"""
        return unroll(self, x, state, weight)

    def first_state(self, batch: int) -> State:
        """Zeros, the state before the first step. 初始状态（零）。"""
        like = self.recurrent.weight
        return tuple(like.new_zeros(batch, self.hidden_size) for _ in range(self.parts))

    def forward(
        self, x: Tensor, state: State | None = None, weight: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Outputs [L, B, D] and the last state; `weight` stands in for U where some of U is dropped.

        输出与末状态；可传入经过失活的循环权重。

        Raises UserError for x of other shapes.
        """
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise UserError(f"expected input [steps, rows, {self.input_size}], got {list(x.shape)}")
        state = self.first_state(x.shape[1]) if state is None else state
        weight = self.recurrent.weight if weight is None else weight
        if not x.shape[0]:
            return x.new_zeros(0, x.shape[1], self.hidden_size), state
        return self.scan(x, state, weight)


def unroll(cell: RecurrentCell, x: Tensor, state: State, weight: Tensor) -> tuple[Tensor, State]:
    """The definition of a scan: `advance`, step after step; twice differentiable. 逐步展开（定义）。"""
    outputs = []
    for projected in cell.input(x):
        state = cell.advance(projected, state, weight)
        outputs.append(state[0])
    return torch.stack(outputs), state
