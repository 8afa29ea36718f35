"""Heads that must stop: the end token's probability has a lower bound that rises to one, whatever the model says.

必然终止的输出层：结束符概率的下界随长度升至 1。

Source: Welleck et al. 2020, arXiv 2002.02492; Choi et al. 2023, arXiv 2210.00660; kexue.fm/archives/7500.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.errors import UserError


class Termination(Protocol):
    """How log(1 - p_t(end)) is made of scores z_t: `lasting(z)` adds up over the steps, `passing(z)` does not.

    终止规则：各步累加的部分与仅限当前步的部分。

        log(1 - p_t(end)) = sum_(i<=t) lasting(z_i) + passing(z_t)

    `start` is the score to begin training with: one that lets texts go on, for products of halves would have ended
    them all after a few tokens, and training would spend its time on unlearning that.
    """

    @property
    def start(self) -> float:
        """The score that an untrained head gives."""
        ...

    def lasting(self, scores: Tensor) -> Tensor:
        """Scores [...] to what every later step keeps, [...]."""
        ...

    def passing(self, scores: Tensor) -> Tensor:
        """Scores [...] to what holds at its own step alone, [...]."""
        ...


@dataclass(frozen=True)
class SelfTerminating:
    """The self-terminating softmax: p(end) never falls. 自终止 softmax：结束符概率单调不减。

        1 - p_t(end) = prod_(i<=t) (1 - epsilon) sigmoid(z_i),  so that  p_t(end) >= 1 - (1 - epsilon)^(t+1)

    A great score means to go on. t counts from 0. Raises UserError unless 0 < epsilon < 1.

    Source: Welleck et al. 2020, arXiv 2002.02492; kexue.fm/archives/7500.
    """

    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)

    @property
    def start(self) -> float:
        """To go on with probability 0.98."""
        return 4.0

    def lasting(self, scores: Tensor) -> Tensor:
        """log((1 - epsilon) sigmoid(z))."""
        return functional.logsigmoid(scores) + math.log1p(-self.epsilon)

    def passing(self, scores: Tensor) -> Tensor:
        """Nothing."""
        return torch.zeros_like(scores)


@dataclass(frozen=True)
class NonMonotonic:
    """The non-monotonic successor: only the lower bound of p(end) rises. 非单调的自终止：仅下界上升。

        1 - p_t(end) = (1 - sigmoid(z_t)) (1 - epsilon)^(t+1),  so that  p_t(end) >= 1 - (1 - epsilon)^(t+1)

    A great score means to stop. t counts from 0 (the paper's from 1). Raises UserError unless 0 < epsilon < 1.

    Source: Choi et al. 2023, arXiv 2210.00660.
    """

    epsilon: float = 1e-4

    def __post_init__(self) -> None:
        _check_epsilon(self.epsilon)

    @property
    def start(self) -> float:
        """To go on with probability 0.98."""
        return -4.0

    def lasting(self, scores: Tensor) -> Tensor:
        """log(1 - epsilon)."""
        return torch.full_like(scores, math.log1p(-self.epsilon))

    def passing(self, scores: Tensor) -> Tensor:
        """log(1 - sigmoid(z))."""
        return functional.logsigmoid(-scores)


def _check_epsilon(epsilon: float) -> None:
    if not 0 < epsilon < 1:
        raise UserError(f"expected an epsilon between 0 and 1, such as 0.001, got {epsilon}")


def log1mexp(values: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, exact near 0 and far from it; [...] to [...].

    稳定的 log(1 − eˣ)。

    Source: Mächler 2012, Accurately computing log(1 - exp(-|a|)).
    """
    near = values > -math.log(2)
    # Each branch is kept where it is finite, for the gradient of the branch not taken is multiplied by 0.
    close = torch.where(near, values, -1.0)
    far = torch.where(near, -1.0, values)
    return torch.where(near, (-torch.expm1(close)).log(), torch.log1p(-far.exp()))


def log_going_on(termination: Termination, scores: Tensor, lengths: Sequence[int]) -> Tensor:
    """log(1 - p(end)) of packed steps [M], each row of `lengths` starting anew. 逐行重新累加的继续概率对数。

    Raises UserError where the lengths do not add up to M.
    """
    if scores.dim() != 1 or sum(lengths) != len(scores):
        raise UserError(
            f"expected scores [{sum(lengths)}] for rows of {list(lengths)}, got {list(scores.shape)}"
        )
    if not len(scores):
        return scores
    # Sums run within a row: differences of one long sum would lose the digits of short rows.
    rows = nn.utils.rnn.pad_sequence(list(termination.lasting(scores).split(list(lengths))), batch_first=True)
    counts = torch.tensor(list(lengths), device=scores.device)
    real = torch.arange(rows.shape[1], device=scores.device) < counts[:, None]
    return rows.cumsum(1)[real] + termination.passing(scores)


def with_end(logits: Tensor, going_on: Tensor, end_id: int) -> Tensor:
    """log p of the whole vocabulary: the end token takes 1 - exp(going_on), the others share the rest.

    结束符取得终止概率，其余词元按 softmax 分享剩余概率。

        log p(v) = going_on + log softmax over V without end,   log p(end) = log(1 - exp(going_on))

    Shapes: logits [..., V], going_on [...] to [..., V], in float32 at least. Raises UserError where the
    vocabulary has no such token, or no other.
    """
    check_end(logits, end_id)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    others = wide.index_fill(-1, _index(end_id, wide), -math.inf).log_softmax(-1) + going_on[..., None]
    return others.index_copy(-1, _index(end_id, wide), log1mexp(going_on)[..., None].to(others.dtype))


def check_end(logits: Tensor, end_id: int) -> None:
    """Raises UserError where logits [..., V] have no end token, or nothing else. 校验结束符。"""
    size = logits.shape[-1]
    if not 0 <= end_id < size or size < 2:
        raise UserError(f"expected an end token in a vocabulary of at least 2, got {end_id} of {size}")


def _index(end_id: int, like: Tensor) -> Tensor:
    return torch.tensor([end_id], device=like.device)


class StopHead(nn.Module):
    """z = u · h + b, and the log-probabilities that a `Termination` makes of it. 终止打分层。

    Shapes: hidden [..., C] to scores [...], float32 at least.
    """

    def __init__(self, hidden_size: int, end_id: int, termination: Termination) -> None:
        super().__init__()
        self.end_id, self.termination = end_id, termination
        self.output = nn.Linear(hidden_size, 1)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.constant_(self.output.bias, termination.start)

    def scores(self, hidden: Tensor) -> Tensor:
        """[..., C] to [...]."""
        found = self.output(hidden).squeeze(-1)
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def forward(self, hidden: Tensor, logits: Tensor, lengths: Sequence[int]) -> Tensor:
        """Hidden states [M, C] and logits [M, V] of packed rows to log p [M, V]."""
        going_on = log_going_on(self.termination, self.scores(hidden), lengths)
        return with_end(logits, going_on, self.end_id)
