"""Random replacement: where, how often, by what; deterministic from the collate's generator."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hanformer.data.batches import TokenBudgetBatches
from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.errors import UserError
from hanformer.train.sequence import predict_targets
from hanformer.train.tricks.penalty import gradient_penalty
from hanformer.train.tricks.replacement import POOLS, Replacement, replacing
from tests.harness.tricks import PAIRS, writer

LONG = Pair(tuple(range(100, 120)), tuple(range(200, 230)))


@given(st.integers(0, 10**6), st.sampled_from(POOLS), st.floats(0, 1), st.floats(0, 1), st.integers(1, 4))
def test_source_labels_and_layout_stay(seed: int, pool: Any, rows: float, tokens: float, count: int) -> None:
    batch = join_pairs(PAIRS[:count])
    how = Replacement(rows, tokens, pool, vocabulary_size=23 if pool == "vocabulary" else 0)
    found = how.disturbed(batch, Random(seed))
    is_source = batch.layout.segments == 0
    assert torch.equal(found.token_ids[is_source], batch.token_ids[is_source])
    assert found.labels is batch.labels and found.layout is batch.layout
    assert found.predictors is batch.predictors
    again = how.disturbed(batch, Random(seed))
    assert torch.equal(found.token_ids, again.token_ids)


@pytest.mark.parametrize(
    ("pool", "allowed"),
    [
        ("target", set(LONG.target[:-1])),
        ("row", set(LONG.source + LONG.target[:-1])),
        ("vocabulary", set(range(50))),
    ],
)
def test_the_pool_and_the_share(pool: Any, allowed: set[int]) -> None:
    how = Replacement(pool=pool, vocabulary_size=50)
    batch, random = join_pairs([LONG] * 50), Random(1)
    changed, rows, drawn = 0, 0, set()
    for _ in range(40):
        found = how.disturbed(batch, random)
        differs = found.token_ids != batch.token_ids
        changed += int(differs.sum())
        drawn |= set(found.token_ids[differs].tolist())
        rows += int((differs.view(50, -1).any(1)).sum())
    same = 0.0 if pool == "vocabulary" else 1 / len(allowed)
    assert drawn == allowed
    assert rows / 2000 == pytest.approx(0.5, abs=0.04)
    assert changed / (2000 * 29) == pytest.approx(0.5 * 0.3 * (1 - same), rel=0.06)


def collate(indices: Sequence[int], random: Random) -> SequenceBatch:
    return join_pairs([LONG for _ in indices])


def test_a_share_of_zero_is_the_collate_itself() -> None:
    assert replacing(collate, Replacement(rows=0.0)) is collate
    assert replacing(collate, Replacement(tokens=0.0)) is collate


def test_epochs_differ_and_a_resumed_run_finds_the_same() -> None:
    source = TokenBudgetBatches([49] * 6, 200, replacing(collate, Replacement(rows=1.0)), seed=5)
    first, second = (source.batches(epoch)[1].token_ids for epoch in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(source.batches(0)[1].token_ids, first)


def test_the_gradient_penalty_stands_upon_it() -> None:
    batch = Replacement(rows=1.0, tokens=1.0).disturbed(join_pairs(PAIRS), Random(0))
    assert gradient_penalty(predict_targets(), 0.1)(writer(), batch).total.isfinite()


@pytest.mark.parametrize(
    "numbers",
    [{"rows": 1.5}, {"tokens": -0.1}, {"tokens": float("nan")}, {"pool": "all"}, {"pool": "vocabulary"}],
)
def test_senseless_numbers(numbers: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="replacement: "):
        Replacement(**numbers)
