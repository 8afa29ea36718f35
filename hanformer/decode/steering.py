"""Filters that steer: biases, suppressed and forced tokens, a growing urge to end.

引导性的过滤器：偏置、禁用、强制、随长度增强的结束倾向。
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.decode.search import Row
from hanformer.errors import UserError


@dataclass(frozen=True)
class Bias:
    """Adds a number to the logits of some tokens; -inf forbids one.

    对指定词元的 logits 加偏置。

    Raises UserError for NaN or +inf, and for ids outside the vocabulary.
    """

    of_token: Mapping[int, float]

    def __post_init__(self) -> None:
        bad = [value for value in self.of_token.values() if math.isnan(value) or value == math.inf]
        if bad:
            raise UserError(f"expected finite biases or -inf, got {bad[0]}")

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        tokens = known_tokens(list(self.of_token), logits)
        return logits.index_add(-1, tokens, logits.new_tensor([list(self.of_token.values())] * len(logits)))


@dataclass(frozen=True)
class Suppress:
    """Forbids tokens everywhere, or where `steps` are given at these steps alone (0 is the first).

    禁用词元（可仅限若干步，0 为第一步）。

    Raises UserError for ids outside the vocabulary.
    """

    tokens: Sequence[int]
    steps: Sequence[int] | None = None

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        if not rows or (self.steps is not None and len(rows[0].tokens) not in self.steps):
            return logits
        return logits.index_fill(-1, known_tokens(self.tokens, logits), -math.inf)


@dataclass(frozen=True)
class Force:
    """Forces the token of a step: {0: a} begins with a, {maximum_length - 1: end} ends in time.

    强制某一步的词元。

    The forced token has probability one and costs nothing. Raises UserError for ids outside the vocabulary.
    """

    at_step: Mapping[int, int]

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        token = self.at_step.get(len(rows[0].tokens)) if rows else None
        if token is None:
            return logits
        return torch.full_like(logits, -math.inf).index_fill(-1, known_tokens([token], logits), 0.0)


@dataclass(frozen=True)
class LengthDecay:
    """Makes the end token ever more probable after `start` new tokens.

    超过指定长度后逐步提高结束符的得分。

        logit_end += |logit_end| * (factor ** (length - start) - 1)   where length > start

    Raises UserError unless factor > 0 and start >= 0, and for an end token outside the vocabulary.
    """

    start: int
    factor: float
    end_id: int

    def __post_init__(self) -> None:
        if self.start < 0 or not self.factor > 0:
            raise UserError(f"expected start >= 0 and factor > 0, got {self.start} and {self.factor}")

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        past = len(rows[0].tokens) - self.start if rows else 0
        if past <= 0:
            return logits
        place = known_tokens([self.end_id], logits)
        end = logits.index_select(-1, place)
        # A greater power would overflow, and the end token wins long before.
        power = self.factor**past if past * math.log(self.factor) < 60 else math.exp(60)
        added = (end.abs() * (power - 1)).masked_fill(~end.isfinite(), 0.0)
        return logits.index_add(-1, place, added)


def known_tokens(tokens: Sequence[int], logits: Tensor) -> Tensor:
    """The ids as a tensor; raises UserError where one is outside the vocabulary. 校验词元编号。"""
    size = logits.shape[-1]
    outside = [token for token in tokens if not 0 <= token < size]
    if outside:
        raise UserError(f"expected token ids in 0..{size - 1}, got {outside[0]}")
    return torch.tensor(list(tokens), dtype=torch.long, device=logits.device)
