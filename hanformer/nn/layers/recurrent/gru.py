"""The GRU in the form of its paper, in torch's form, and the one that kexue.fm/archives/7888 suggests."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hanformer.nn.layers.recurrent.cell import RecurrentCell, State


class GruCell(RecurrentCell):
    """h_t = (1 - z) h_{t-1} + z ĥ, ĥ = tanh(W x_t + U_h (r h_{t-1}) + b): the reset acts before the product.

    门控循环单元（重置门在矩阵乘之前）。

    Rows of W and U: z, r, ĥ. Source: Cho et al. 2014, arXiv 1406.1078; kexue.fm/archives/7888.
    Differs from torch.nn.GRU, whose z keeps and whose reset acts after the product: `ResetAfterGruCell`.
    """

    gates: ClassVar[int] = 3

    def advance(self, projected: Tensor, state: State, weight: Tensor) -> State:
        """One step. 一步递推。"""
        (hidden,), size = state, self.hidden_size
        z, r = (projected[:, : 2 * size] + hidden @ weight[: 2 * size].T).sigmoid().chunk(2, dim=-1)
        candidate = torch.tanh(projected[:, 2 * size :] + (r * hidden) @ weight[2 * size :].T)
        return ((1 - z) * hidden + z * candidate,)


class ResetAfterGruCell(RecurrentCell):
    """h_t = (1 - z) n + z h_{t-1}, n = tanh(W x_t + b + r (U h_{t-1} + b')): torch's GRU.

    torch 形式的 GRU（重置门在矩阵乘之后，z 为保留比例）。

    Rows of W and U: r, z, n. Source: torch.nn.GRU; Chung et al. 2014, arXiv 1412.3555.
    """

    gates: ClassVar[int] = 3

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, recurrent_bias=True)

    def advance(self, projected: Tensor, state: State, weight: Tensor) -> State:
        """One step. 一步递推。"""
        (hidden,), size = state, self.hidden_size
        told = hidden @ weight.T + self.recurrent.bias
        r, z = (projected[:, : 2 * size] + told[:, : 2 * size]).sigmoid().chunk(2, dim=-1)
        candidate = torch.tanh(projected[:, 2 * size :] + r * told[:, 2 * size :])
        return ((1 - z) * candidate + z * hidden,)

    def scan(self, x: Tensor, state: State, weight: Tensor) -> tuple[Tensor, State]:
        """torch's kernel. 使用 torch 内核。"""
        flat = [self.input.weight, weight, self.input.bias, self.recurrent.bias]
        outputs, last = torch.gru(x, state[0][None], flat, True, 1, 0.0, self.training, False, False)
        return outputs, (last[0],)


class ModifiedGruCell(RecurrentCell):
    """c_t = (1 - z) c_{t-1} + z ĉ, h_t = r c_t, ĉ = tanh(W x_t + U h_{t-1} + b): the reset moved to the output.

    苏剑林建议的改进 GRU：重置门移到输出处。

    Rows of W and U: z, r, ĉ. State: (h, c); |c| stays below 1 where it starts there.
    Source: kexue.fm/archives/7888.
    """

    parts: ClassVar[int] = 2
    gates: ClassVar[int] = 3

    def advance(self, projected: Tensor, state: State, weight: Tensor) -> State:
        """One step. 一步递推。"""
        hidden, memory = state
        z, r, candidate = (projected + hidden @ weight.T).chunk(3, dim=-1)
        z = z.sigmoid()
        memory = (1 - z) * memory + z * candidate.tanh()
        return r.sigmoid() * memory, memory
