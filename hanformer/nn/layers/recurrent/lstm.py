"""The LSTM, by torch's kernel."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hanformer.nn.layers.recurrent.cell import RecurrentCell, State


class LstmCell(RecurrentCell):
    """c_t = f c_{t-1} + i g, h_t = o tanh(c_t), with i, f, o = σ(·) and g = tanh(·) of W x_t + U h_{t-1} + b.

    长短期记忆网络。

    Rows of W and U: i, f, g, o, as in torch. State: (h, c). Source: Hochreiter and Schmidhuber 1997.
    """

    parts: ClassVar[int] = 2
    gates: ClassVar[int] = 4

    def advance(self, projected: Tensor, state: State, weight: Tensor) -> State:
        """One step. 一步递推。"""
        hidden, memory = state
        i, f, g, o = (projected + hidden @ weight.T).chunk(4, dim=-1)
        memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        return o.sigmoid() * memory.tanh(), memory

    def scan(self, x: Tensor, state: State, weight: Tensor) -> tuple[Tensor, State]:
        """torch's kernel. 使用 torch 内核。"""
        own = self.input
        flat = [own.weight, weight, own.bias, torch.zeros_like(own.bias)]
        first = (state[0][None], state[1][None])
        outputs, hidden, memory = torch.lstm(x, first, flat, True, 1, 0.0, self.training, False, False)
        return outputs, (hidden[0], memory[0])
