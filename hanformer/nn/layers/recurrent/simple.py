"""The simple recurrent network."""

from __future__ import annotations

import torch
from torch import Tensor

from hanformer.nn.layers.recurrent.cell import RecurrentCell, State


class SimpleCell(RecurrentCell):
    """h_t = tanh(W x_t + U h_{t-1} + b).

    简单循环网络。

    Source: Elman 1990; kexue.fm/archives/7888.
    """

    def advance(self, projected: Tensor, state: State, weight: Tensor) -> State:
        """One step. 一步递推。"""
        return (torch.tanh(projected + state[0] @ weight.T),)

    def scan(self, x: Tensor, state: State, weight: Tensor) -> tuple[Tensor, State]:
        """torch's kernel. 使用 torch 内核。"""
        own = self.input
        flat = [own.weight, weight, own.bias, torch.zeros_like(own.bias)]
        outputs, last = torch.rnn_tanh(x, state[0][None], flat, True, 1, 0.0, self.training, False, False)
        return outputs, (last[0],)
