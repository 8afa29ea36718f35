"""Batches by a budget of tokens: complete, bounded, deterministic, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.data.batches import BatchSource, TokenBudgetBatches
from hanformer.errors import UserError

Drawn = tuple[tuple[int, ...], float]


def collate(indices: Sequence[int], random: Random) -> Drawn:
    return tuple(indices), random.random()


def source(lengths: Sequence[int], budget: int, **choices: bool | int) -> TokenBudgetBatches[Drawn]:
    return TokenBudgetBatches(lengths, budget, collate, **choices)


def skewed(count: int) -> list[int]:
    random = Random(0)
    return [min(128, 5 + int(random.expovariate(1 / 25))) for _ in range(count)]


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=80),
    budget=st.integers(20, 60),
    shuffle=st.booleans(),
    pool=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_every_example_once_and_never_over_the_budget(lengths, budget, shuffle, pool, epoch):
    plan = source(lengths, budget, shuffle=shuffle, pool=pool, seed=7).plan(epoch)
    assert sorted(index for batch in plan for index in batch) == list(range(len(lengths)))
    assert all(batch and sum(lengths[index] for index in batch) <= budget for batch in plan)


def test_the_same_seed_and_epoch_give_the_same_batches_and_others_do_not():
    lengths = skewed(500)
    first = list(source(lengths, 512, seed=1).batches(3))
    assert first == list(source(lengths, 512, seed=1).batches(3))
    assert first != list(source(lengths, 512, seed=1).batches(4))
    assert first != list(source(lengths, 512, seed=2).batches(3))


def test_resuming_at_an_index_gives_the_rest_and_its_random_draws():
    batches: BatchSource[Drawn] = source(skewed(300), 512)
    whole = [batches.batches(1)[index] for index in range(len(batches.batches(1)))]
    assert [batches.batches(1)[index] for index in range(5, len(whole))] == whole[5:]
    assert len({draw for _, draw in whole}) == len(whole)
    with pytest.raises(IndexError):
        batches.batches(1)[len(whole)]


def test_lengths_in_a_batch_are_similar_and_batches_are_full():
    lengths = skewed(4000)

    def padded(plan: list[tuple[int, ...]]) -> float:
        return sum(len(batch) * max(lengths[index] for index in batch) for batch in plan) / sum(lengths)

    pooled = source(lengths, 1024).plan(0)
    assert padded(pooled) < 1.10 < 1.8 < padded(source(lengths, 1024, pool=1).plan(0)) + 0.8
    assert len(pooled) <= 1.08 * sum(lengths) / 1024 + 1
    # Batches come in no order of length, or training would see short ones first.
    means = [sum(lengths[index] for index in batch) / len(batch) for batch in pooled]
    assert means != sorted(means) and means != sorted(means, reverse=True)


def test_without_shuffle_epochs_are_equal_and_the_longest_come_first():
    lengths = skewed(300)
    batches = source(lengths, 512, shuffle=False)
    assert batches.plan(0) == batches.plan(9)
    in_order = [lengths[index] for batch in batches.plan(0) for index in batch]
    assert in_order == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("lengths", "said"),
    [([3, 9, 10], "example 2 has 10 tokens"), ([3, 0], "example 1 has 0 tokens"), ([], "no examples")],
)
def test_examples_that_fit_in_no_batch_are_named(lengths, said):
    with pytest.raises(UserError, match=said):
        source(lengths, 9)
