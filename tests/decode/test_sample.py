"""Sampling: exact distributions by chi-square, and draws that the batch cannot change."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode import (
    AutomatonConstraint,
    Epsilon,
    Eta,
    Greedy,
    Hypothesis,
    KeepEnd,
    MinP,
    Sample,
    TopP,
    Trie,
    Typical,
)
from hanformer.decode.sample import inverse_draw, uniform
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table


def chi_square_z(counts: Counter, expected: dict[tuple[int, ...], float]) -> float:
    """The Wilson-Hilferty normal score of Pearson's statistic; below 4 for all but 3 in 100,000 samples."""
    total, freedom = sum(counts.values()), len(expected) - 1
    statistic = sum((counts[key] - total * p) ** 2 / (total * p) for key, p in expected.items())
    spread = 2 / (9 * freedom)
    return ((statistic / freedom) ** (1 / 3) - 1 + spread) / math.sqrt(spread)


def sequence_probabilities(rule: Sample, table: torch.Tensor, start: int) -> dict[tuple[int, ...], float]:
    """Exact probabilities of the outcomes of two steps: the end, or a token and then any token."""
    filtered = rule.filter(table).softmax(-1)
    size = len(table)
    first = {(END,): float(filtered[start, END])}
    pairs = itertools.product(range(1, size), range(size))
    both = {(a, b): float(filtered[start, a] * filtered[a, b]) for a, b in pairs}
    return {key: p for key, p in {**first, **both}.items() if p > 0}


def outcome(hypothesis: Hypothesis) -> tuple[int, ...]:
    return (*hypothesis.tokens, END) if hypothesis.finished else hypothesis.tokens


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.6},
        {"top_k": 2},
        {"top_p": 0.95},
        {"temperature": 1.5, "top_k": 3, "top_p": 0.8},
        {"more": (MinP(0.04),)},
        {"more": (Typical(0.96),)},
        {"more": (Epsilon(0.04),)},
        {"more": (Eta(0.04),)},
        {"temperature": 2.0, "more": (KeepEnd(TopP(0.4), END),)},
    ],
    ids=str,
)
def test_draws_follow_the_exact_distribution(settings) -> None:
    table, rule = random_table(4, 1, 3), Sample(seed=1, samples=4000, **settings)
    [found] = decode(table, [[2]], rule, 2)
    counts, expected = Counter(map(outcome, found)), sequence_probabilities(rule, table, 2)
    assert set(counts) <= set(expected)
    assert abs(chi_square_z(counts, expected)) < 4
    log_p = table.log_softmax(-1)
    for hypothesis in found[:20]:
        steps = itertools.pairwise((2, *outcome(hypothesis)))
        assert hypothesis.score == pytest.approx(float(sum(log_p[step] for step in steps)))


def test_chi_square_can_fail() -> None:
    table = random_table(4, 1, 3)
    [found] = decode(table, [[2]], Sample(seed=1, samples=4000, temperature=0.9), 2)
    assert chi_square_z(Counter(map(outcome, found)), sequence_probabilities(Sample(), table, 2)) > 4


def test_constrained_draws_are_renormalised_over_what_is_allowed() -> None:
    table = random_table(5, 1, 9)
    constraint = AutomatonConstraint(Trie([[1], [2], [3]], END), [Trie.root], 5)
    [found] = decode(table, [[2]], Sample(samples=4000), 2, constraint=constraint)
    allowed = table[2, 1:4].softmax(-1).tolist()
    expected = {(token,): p for token, p in zip((1, 2, 3), allowed, strict=True)}
    assert abs(chi_square_z(Counter(h.tokens for h in found), expected)) < 4


@settings(max_examples=10)
@given(st.integers(0, 99), st.integers(1, 3))
def test_draws_do_not_depend_on_the_batch(seed, samples) -> None:
    table, prompts = random_table(6, 1, seed), [[1], [2], [2], [4], [0]]
    together = decode(table, prompts, Sample(seed, samples, top_p=0.9), 8)
    for row, prompt in enumerate(prompts):
        rule = Sample(seed, samples, top_p=0.9, first_row=row)
        assert decode(table, [prompt], rule, 8) == [together[row]]
    fewer = decode(table, prompts, Sample(seed, 1, top_p=0.9), 8)
    assert [hypotheses[0] for hypotheses in together] == [hypotheses[0] for hypotheses in fewer]


def test_seeds_rows_samples_and_steps_draw_differently() -> None:
    draws = [uniform(*key) for key in itertools.product(range(3), repeat=4)]
    assert len(set(draws)) == 81 and all(0 <= u < 1 for u in draws)
    assert uniform(1, 2, 3, 4) == uniform(1, 2, 3, 4)
    mean = sum(uniform(0, row, 0, 0) for row in range(2000)) / 2000
    assert abs(mean - 0.5) < 4 / math.sqrt(12 * 2000)


def test_top_k_of_one_and_low_temperature_are_greedy() -> None:
    table, prompts = random_table(6, 1, 4), [[t] for t in range(6)]
    greedy = [h[0].tokens for h in decode(table, prompts, Greedy(), 7)]
    for rule in (Sample(top_k=1), Sample(temperature=1e-4), Sample(top_p=1e-6)):
        assert [h[0].tokens for h in decode(table, prompts, rule, 7)] == greedy


def test_inverse_draw_never_gives_a_token_of_probability_zero() -> None:
    probabilities = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]]).repeat(5, 1)
    uniforms = torch.tensor([0.0, 0.29, 0.31, 1 - 2.0**-53, 0.5], dtype=torch.float64)
    assert inverse_draw(probabilities, uniforms).tolist() == [1, 1, 3, 3, 3]


@pytest.mark.parametrize("left", [-math.inf, math.nan])
def test_a_truncation_that_leaves_nothing_is_an_error(left) -> None:
    rule = Sample(more=(lambda logits, rows: torch.full_like(logits, left),))
    with pytest.raises(UserError, match="prompt 0: expected an allowed token after 0 generated"):
        decode(random_table(5, 1, 0), [[1]], rule, 4)


@pytest.mark.parametrize(
    "settings",
    [
        {"samples": 0},
        {"temperature": 0.0},
        {"temperature": math.inf},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings) -> None:
    with pytest.raises(UserError, match="expected"):
        Sample(**settings)
