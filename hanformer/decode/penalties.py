"""Filters that discourage or forbid what was written before.

抑制或禁止重复已写内容的过滤器。

Each counts the new tokens of a row, and the tokens of its prompt too where `prompts` are given, one sequence a
prompt of the batch. Ids outside the vocabulary are passed over.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.decode.search import Row
from hanformer.errors import UserError

Prompts = Sequence[Sequence[int]]


def history(row: Row, prompts: Prompts) -> tuple[int, ...]:
    """The tokens of the row's prompt, where there are prompts, and its new ones.

    提示（若给出）与新词元。
    """
    if not prompts:
        return row.tokens
    if row.prompt >= len(prompts):
        raise UserError(f"expected the tokens of every prompt of the batch, got {len(prompts)} prompts")
    return (*prompts[row.prompt], *row.tokens)


@dataclass(frozen=True)
class RepetitionPenalty:
    """Divides the positive logits of tokens that occurred by theta, and multiplies the negative ones.

    重复惩罚：已出现词元的正 logit 除以 theta，负 logit 乘以 theta。

    Raises UserError unless theta > 0. Source: Keskar et al. 2019, CTRL, arXiv 1909.05858.
    """

    theta: float
    prompts: Prompts = ()

    def __post_init__(self) -> None:
        if not self.theta > 0:
            raise UserError(f"expected a repetition penalty above 0, got {self.theta}")

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        places, _ = _counts(rows, self.prompts, logits)
        old = logits[places]
        return logits.index_put(places, torch.where(old < 0, old * self.theta, old / self.theta))


@dataclass(frozen=True)
class CountPenalty:
    """Subtracts a constant from the logits of tokens that occurred, and an amount for each occurrence.

    出现惩罚与频率惩罚。

        logit_i -= presence * [n_i > 0] + frequency * n_i
    """

    presence: float = 0.0
    frequency: float = 0.0
    prompts: Prompts = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.presence) and math.isfinite(self.frequency)):
            raise UserError(f"expected finite penalties, got {self.presence} and {self.frequency}")

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        places, counts = _counts(rows, self.prompts, logits)
        return logits.index_put(places, logits[places] - self.presence - self.frequency * counts)


@dataclass(frozen=True)
class NoRepeat:
    """Forbids every token that would complete an n-gram a second time.

    禁止重复 n 元组。

    Raises UserError for n below 1. Source: Paulus et al. 2017, arXiv 1705.04304.
    """

    size: int
    prompts: Prompts = ()

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"expected n-grams of at least 1 token, got {self.size}")

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """[R, V] to [R, V]."""
        banned = [self._banned(history(row, self.prompts)) for row in rows]
        places = _places(banned, logits)
        return logits.index_put(places, logits.new_tensor(-math.inf))

    def _banned(self, tokens: tuple[int, ...]) -> set[int]:
        begun = self.size - 1
        suffix = tokens[len(tokens) - begun :]
        starts = range(len(tokens) - begun)
        return {tokens[start + begun] for start in starts if tokens[start : start + begun] == suffix}


def _counts(rows: Sequence[Row], prompts: Prompts, logits: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    counters = [Counter(history(row, prompts)) for row in rows]
    size = logits.shape[-1]
    numbers = [n for counter in counters for token, n in counter.items() if token < size]
    return _places(counters, logits), logits.new_tensor(numbers)


def _places(tokens: Iterable[Iterable[int]], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Row and token numbers to index the logits with."""
    size = logits.shape[-1]
    pairs = [(row, token) for row, each in enumerate(tokens) for token in each if token < size]
    places = torch.tensor(pairs, dtype=torch.long, device=logits.device).view(-1, 2)
    return places[:, 0], places[:, 1]
