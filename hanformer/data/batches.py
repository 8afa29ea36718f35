"""Batches by a budget of tokens: similar lengths together, every example once, resumable at any batch.

按词元预算组批：长度相近者同批，每轮每个样本恰好一次，可从任一批次恢复。
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Generic, Protocol, TypeVar

import numpy as np

from hanformer.errors import UserError

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)

Collate = Callable[[Sequence[int], Random], Batch]
"""Makes the batch of the examples with these indices. 由样本下标生成批次。

It may draw from the generator, which depends on (seed, epoch, place of the batch) alone.
"""


class Batches(Protocol[BatchOut]):
    """The batches of one epoch. 一轮的批次。"""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> BatchOut: ...


class BatchSource(Protocol[BatchOut]):
    """Where a trainer's batches come from. 批次来源协议。"""

    def batches(self, epoch: int) -> Batches[BatchOut]:
        """The same batches whenever it is asked for, each made when it is taken; resuming starts at an index.

        某一轮的批次：任何时候调用结果都相同，逐个生成。
        """
        ...


class EpochBatches(Generic[Batch]):
    """One epoch's plan: which examples each batch holds. 一轮的组批方案。

    `plan[i]` are the indices of batch i; `source[i]` makes the batch.
    """

    def __init__(self, plan: Sequence[tuple[int, ...]], collate: Collate[Batch], name: str) -> None:
        self.plan, self._collate, self._name = plan, collate, name

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Batch:
        place = range(len(self.plan))[index]  # refuses, or turns around, an index as any sequence does
        return self._collate(self.plan[place], Random(f"{self._name}/{place}"))

    def __iter__(self) -> Iterator[Batch]:
        return (self[place] for place in range(len(self)))


class TokenBudgetBatches(Generic[Batch]):
    """Cuts examples into batches of at most `token_budget` tokens, with similar lengths in a batch.

    按词元预算组批。

    With `shuffle`, an epoch draws a permutation by (seed, epoch), cuts it into pools of about `pool` batches,
    sorts each pool by length (up and down in turn, so that neighbours stay similar across pools), fills
    batches in that order and shuffles the batches. A pool of 1 is almost pure chance; a larger one makes
    lengths more equal. Without `shuffle`, every epoch has the same batches, longest first, so that a lack of
    memory shows at once.

    `lengths[i]` are the tokens of example i, special tokens included; a batch counts their sum, as it is
    packed without padding.
    Raises: UserError naming the first example that is empty or longer than the budget, or where there is
    none.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        token_budget: int,
        collate: Collate[Batch],
        *,
        seed: int = 0,
        shuffle: bool = True,
        pool: int = 32,
    ) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self.token_budget, self.seed, self.shuffle, self.pool = token_budget, seed, shuffle, pool
        self._collate = collate
        self._check()

    def _check(self) -> None:
        if self._lengths.size == 0:
            raise UserError("there are no examples to make batches of; check that the data set is not empty")
        if self.pool < 1:
            raise UserError(f"pool is {self.pool}, expected a number of batches, at least 1")
        wrong = np.flatnonzero((self._lengths < 1) | (self._lengths > self.token_budget))
        if wrong.size:
            example, length = int(wrong[0]), int(self._lengths[wrong[0]])
            advice = "leave it out" if length < 1 else "raise the budget, or shorten or leave out the example"
            raise UserError(
                f"example {example} has {length} tokens, the budget is {self.token_budget}; {advice}"
            )

    def batches(self, epoch: int) -> EpochBatches[Batch]:
        """The batches of an epoch; the same ones whenever it is called.

        某一轮的批次，可按下标从中间恢复。
        """
        return EpochBatches(self.plan(epoch), self._collate, f"{self.seed}/{epoch}")

    def plan(self, epoch: int) -> list[tuple[int, ...]]:
        """The indices of each batch of an epoch: every example in exactly one batch. 每批包含的样本下标。"""
        if not self.shuffle:
            return self._fill(np.argsort(-self._lengths, kind="stable"))
        generator = np.random.default_rng([self.seed, epoch])
        plan = self._fill(self._sorted_in_pools(generator.permutation(self._lengths.size)))
        return [plan[place] for place in generator.permutation(len(plan))]

    def _sorted_in_pools(self, order: np.ndarray) -> np.ndarray:
        ends = np.cumsum(self._lengths[order])
        borders = np.searchsorted(ends, np.arange(1, ends[-1] // self._pool_tokens + 1) * self._pool_tokens)
        sorted_pools = []
        for number, part in enumerate(np.split(order, borders)):
            lengths = self._lengths[part]
            sorted_pools.append(part[np.argsort(-lengths if number % 2 else lengths, kind="stable")])
        return np.concatenate(sorted_pools)

    @property
    def _pool_tokens(self) -> int:
        return self.token_budget * self.pool

    def _fill(self, order: np.ndarray) -> list[tuple[int, ...]]:
        """Take examples in order; one that would exceed the budget begins the next batch."""
        plan: list[tuple[int, ...]] = []
        batch: list[int] = []
        tokens = 0
        for example, length in zip(order.tolist(), self._lengths[order].tolist(), strict=True):
            if tokens + length > self.token_budget:
                plan.append(tuple(batch))
                batch, tokens = [], 0
            batch.append(example)
            tokens += length
        plan.append(tuple(batch))
        return plan
