"""Chosen rows of a store, and the batches that are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from torch import nn

from hanformer.data.batches import TokenBudgetBatches
from hanformer.data.sequences import SequenceBatch
from hanformer.tasks.pretrain.evaluation import judge_kinds
from hanformer.tasks.pretrain.joining import Mixture
from hanformer.tasks.pretrain.store import TokenStore

#: Tokens that every kind of row adds to what is stored.
BORDERS = 2


@dataclass(frozen=True, eq=False)
class RowSet:
    """Rows of a store by number. 词元库中选定的行。"""

    store: TokenStore
    rows: np.ndarray

    @classmethod
    def all(cls, store: TokenStore) -> RowSet:
        """Every row. 全部行。"""
        return cls(store, np.arange(len(store)))

    @property
    def tokens(self) -> int:
        """Tokens of these rows, borders left out. 词元总数。"""
        return int(self.store.lengths[self.rows].sum())

    def batches(
        self, mixture: Mixture, token_budget: int, *, seed: int = 0, shuffle: bool = True
    ) -> TokenBudgetBatches[SequenceBatch]:
        """Batches of at most so many tokens. 按词元预算组批。"""
        lengths = self.store.lengths[self.rows] + BORDERS
        return TokenBudgetBatches(
            lengths,
            token_budget,
            mixture.collate(self.store, self.rows),
            seed=seed,
            shuffle=shuffle,
        )

    def judge(self, model: nn.Module, mixture: Mixture, token_budget: int) -> dict[str, float]:
        """`judge_kinds` over all rows, the draws being the same every time. 在全部行上评测。"""
        kinds = {kind: self._plain(mixture.only(kind), token_budget) for kind in mixture.makers}
        return judge_kinds(model, kinds, mixture.shares)

    def _plain(self, mixture: Mixture, token_budget: int) -> Iterator[SequenceBatch]:
        return iter(self.batches(mixture, token_budget, shuffle=False).batches(0))


def hold_out(store: TokenStore, count: int, seed: int) -> tuple[RowSet, RowSet]:
    """All rows but `count`, and these, drawn by the seed. 留出若干行。"""
    held = np.sort(np.asarray(Random(f"rows/{seed}").sample(range(len(store)), count), dtype=np.int64))
    return RowSet(store, np.setdiff1d(np.arange(len(store)), held)), RowSet(store, held)


def at_most(store: TokenStore, count: int, seed: int) -> RowSet:
    """All rows of a store, or so many of them, drawn by the seed. 至多取若干行。"""
    if len(store) <= count:
        return RowSet.all(store)
    return hold_out(store, count, seed)[1]
