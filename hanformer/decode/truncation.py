"""Filters that a sampler or the loop applies in order: temperature and truncations, with their settings.

过滤器对象：温度与各种截断，供采样或解码循环依次调用。
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.decode import filters
from hanformer.decode.search import Filter, Row
from hanformer.errors import UserError

# One token that is certain: what a filter is tried on when it is made, so that bad settings fail at once.
_TRIAL = torch.zeros(1, 1)


@dataclass(frozen=True)
class Temperature:
    """`filters.temperature`. 温度。"""

    value: float

    def __post_init__(self) -> None:
        self(_TRIAL, ())

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        return filters.temperature(logits, self.value)


@dataclass(frozen=True)
class TopK:
    """`filters.top_k`. 保留最大的 k 个。"""

    k: int

    def __post_init__(self) -> None:
        self(_TRIAL, ())

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        return filters.top_k(logits, self.k)


@dataclass(frozen=True)
class TopP:
    """`filters.top_p`. 核采样。"""

    p: float

    def __post_init__(self) -> None:
        self(_TRIAL, ())

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        return filters.top_p(logits, self.p)


@dataclass(frozen=True)
class MinP:
    """`filters.min_p`. 相对最大概率的阈值。"""

    p: float

    def __post_init__(self) -> None:
        self(_TRIAL, ())

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        return filters.min_p(logits, self.p)


@dataclass(frozen=True)
class Typical:
    """`filters.typical`. 典型采样。"""

    mass: float

    def __post_init__(self) -> None:
        self(_TRIAL, ())

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        return filters.typical(logits, self.mass)


@dataclass(frozen=True)
class Epsilon:
    """`filters.epsilon`. 绝对概率阈值。"""

    value: float

    def __post_init__(self) -> None:
        self(_TRIAL, ())

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        return filters.epsilon(logits, self.value)


@dataclass(frozen=True)
class Eta:
    """`filters.eta`. 熵自适应阈值。"""

    value: float

    def __post_init__(self) -> None:
        self(_TRIAL, ())

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        return filters.eta(logits, self.value)


@dataclass(frozen=True)
class Mirostat:
    """Keeps the mean surprise near a target: tokens of more bits than a threshold are dropped, which follows.

    Mirostat 第二版：用反馈调整惊奇度阈值，使平均惊奇度接近目标。

        mu_1 = 2 target,  mu_(t+1) = mu_t - rate * (S_t - target),  S_t = -log2 p(y_t)
        keep i where -log2 p_i <= mu_t; the most probable token always stays

    S_t is measured under the model's own distribution, whose sum each row carries: mu_t follows from the row
    alone, mu_t = 2 target - rate * (sum_(i<t) S_i - (t - 1) target). Use it without a temperature.
    Raises UserError unless target > 0 and rate > 0.

    Source: Basu et al. 2020, arXiv 2007.14966.
    """

    target: float = 3.0
    rate: float = 0.1

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.rate > 0):
            raise UserError(f"expected a target and a rate above 0, got {self.target} and {self.rate}")

    def threshold(self, row: Row) -> float:
        """The most bits that the next token of the row may cost."""
        spent = -row.log_probability / math.log(2)
        return 2 * self.target - self.rate * (spent - len(row.tokens) * self.target)

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        thresholds = logits.new_tensor([self.threshold(row) for row in rows])[:, None]
        bits = -logits.log_softmax(-1) / math.log(2)
        dropped = (bits > thresholds) & (logits < logits.amax(-1, keepdim=True))
        return logits.masked_fill(dropped, -math.inf)


@dataclass(frozen=True)
class KeepEnd:
    """A truncation that never drops the end token: sampling then stops with probability one.

    一致的截断：结束符始终留在候选集中。

        V_t = inner(V) and the end token, renormalised

    `KeepEnd(TopK(k), end)` is consistent top-k, `KeepEnd(TopP(p), end)` consistent nucleus sampling. An end
    token that was forbidden before (by a minimum length, or a constraint) stays forbidden.
    Raises UserError where the vocabulary has no such token.

    Source: Welleck et al. 2020, arXiv 2002.02492; kexue.fm/archives/7500.
    """

    inner: Filter
    end_id: int

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        if not 0 <= self.end_id < logits.shape[-1]:
            raise UserError(f"expected an end token in 0..{logits.shape[-1] - 1}, got {self.end_id}")
        filtered = self.inner(logits, rows).clone()
        end, before = filtered[..., self.end_id], logits[..., self.end_id]
        filtered[..., self.end_id] = torch.where(end.isneginf(), before, end)
        return filtered
