"""ON-LSTM: an LSTM whose units are ordered, low ones overwritten often and high ones kept long."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.layers.recurrent.cell import RecurrentCell, State
from hanformer.nn.layers.recurrent.on_lstm_scan import FORMS, fused_scan


class OnLstmCell(RecurrentCell):
    """c_t = f̂ c_{t-1} + î g, h_t = o tanh(c_t), the gates f̂ and î overlaid by master gates of D/C levels.

    有序神经元 LSTM：主遗忘门、主输入门由 cumax 给出，C 个神经元共用一级。

        m_f = cumsum(softmax(·)), m_i = 1 - cumsum(softmax(·)), w = m_f m_i
        f̂ = f w + (m_f - w), î = i w + (m_i - w); each level rules C neighbouring units

    `form` "paper": m_i[k] = Σ_{j>k} p_j, so that the highest level is never written; "su": Σ_{j>=k} p_j, so that
    the lowest always is, and a single level makes an LSTM. Rows of W and U: the levels of m_i, those of m_f, then
    o, g, i, f. State: (h, c).
    Raises UserError where C does not divide D, for an unknown form, and for one level in the paper's form (nothing
    would ever be written).
    Source: Shen et al. 2019, arXiv 1810.09536; kexue.fm/archives/6621.
    """

    parts: ClassVar[int] = 2
    gates: ClassVar[int] = 4

    def __init__(self, input_size: int, hidden_size: int, chunk_size: int = 1, form: str = "paper") -> None:
        if chunk_size < 1 or hidden_size % chunk_size:
            raise UserError(f"chunk_size: expected a divisor of {hidden_size} units, got {chunk_size}")
        levels = hidden_size // chunk_size
        if form not in FORMS:
            raise UserError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
        if form == "paper" and levels < 2:
            raise UserError("one level in the paper's form writes nothing; use smaller chunks or form='su'")
        super().__init__(input_size, hidden_size, more_rows=2 * levels)
        self.chunk_size, self.form, self.levels = chunk_size, form, levels

    @property
    def written(self) -> int:
        """How many units, from the lowest on, are ever written: in the paper's form all but the highest level.

        会被写入的单元数：论文形式中最高一级除外，其 c 恒为初值。
        """
        return self.hidden_size - (self.chunk_size if self.form == "paper" else 0)

    def advance(self, projected: Tensor, state: State, weight: Tensor) -> State:
        """One step. 一步递推。"""
        hidden, memory = state
        logits = projected + hidden @ weight.T
        forget, write = self.master_gates(logits[:, : 2 * self.levels])
        forget, write = (gate.repeat_interleave(self.chunk_size, dim=-1) for gate in (forget, write))
        o, g, i, f = logits[:, 2 * self.levels :].chunk(4, dim=-1)
        overlap = forget * write
        keep = f.sigmoid() * overlap + (forget - overlap)
        add = i.sigmoid() * overlap + (write - overlap)
        memory = keep * memory + add * g.tanh()
        return o.sigmoid() * memory.tanh(), memory

    def master_gates(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """m_f and m_i [..., levels] from logits [..., 2 levels], m_i's first; in float32 at least.

        主遗忘门与主输入门。
        """
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        write, forget = wide.unflatten(-1, (2, self.levels)).softmax(-1).unbind(-2)
        return forget.cumsum(-1), FORMS[self.form](write)

    def distances(self, x: Tensor, outputs: Tensor, state: State, weight: Tensor) -> tuple[Tensor, Tensor]:
        """1 - mean(m_f) and mean(m_i) at every step, [L, B] each: how high a level is forgotten, and written.

        每步的句法距离（遗忘）与写入高度。

        `outputs` [L, B, D] are those of a scan of `x` from `state` with `weight`. The expected level of forgetting
        is levels · (1 - mean(m_f)) + 1.
        """
        before = torch.cat([state[0][None], outputs[:-1]])
        rows = slice(0, 2 * self.levels)
        told = torch.nn.functional.linear(x, self.input.weight[rows], self.input.bias[rows])
        forget, write = self.master_gates(told + before @ weight[rows].T)
        return 1 - forget.mean(-1), write.mean(-1)

    def scan(self, x: Tensor, state: State, weight: Tensor) -> tuple[Tensor, State]:
        """The fused form; `unroll` is its definition. 融合形式，与逐步展开相等。"""
        outputs, memory = fused_scan(self.input(x), weight, state[0], state[1], self.levels, self.form)
        return outputs, (outputs[-1], memory)
