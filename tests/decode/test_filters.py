"""Filters against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode.filters import temperature, top_k, top_p

P = torch.tensor([0.08, 0.4, 0.02, 0.3, 0.2], dtype=torch.float64)


def kept(logits: torch.Tensor) -> list[int]:
    return [index for index, value in enumerate(logits.tolist()) if value > -math.inf]


def test_temperature_is_a_power_of_the_probabilities() -> None:
    expected = P ** (1 / 0.7) / (P ** (1 / 0.7)).sum()
    assert torch.allclose(temperature(P.log(), 0.7).softmax(-1), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("k", "ids"), [(1, [1]), (2, [1, 3]), (3, [1, 3, 4]), (5, [0, 1, 2, 3, 4]), (99, [0, 1, 2, 3, 4])]
)
def test_top_k(k: int, ids: list[int]) -> None:
    filtered = top_k(P.log(), k)
    assert kept(filtered) == ids
    assert torch.equal(filtered[ids], P.log()[ids])


def test_top_k_keeps_ties() -> None:
    assert kept(top_k(torch.tensor([1.0, 2.0, 1.0, 0.0]), 2)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("p", "ids"),
    [
        (0.1, [1]),
        (0.39, [1]),
        (0.41, [1, 3]),
        (0.69, [1, 3]),
        (0.71, [1, 3, 4]),
        (0.99, [0, 1, 2, 3, 4]),
        (1.0, [0, 1, 2, 3, 4]),
    ],
)
def test_top_p_keeps_the_token_that_crosses(p: float, ids: list[int]) -> None:
    assert kept(top_p(P.log(), p)) == ids


@settings(max_examples=30)
@given(st.integers(0, 999), st.floats(0.01, 0.99))
def test_top_p_is_the_smallest_sufficient_set(seed, p) -> None:
    logits = torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    before = logits.clone()
    for row, filtered in zip(logits.view(-1, 9), top_p(logits, p).view(-1, 9), strict=True):
        probabilities = row.softmax(-1)
        chosen = kept(filtered)
        mass = float(probabilities[chosen].sum())
        assert mass >= p - 1e-12
        assert mass - float(probabilities[chosen].min()) < p + 1e-12
        assert sorted(chosen) == sorted(probabilities.argsort(descending=True)[: len(chosen)].tolist())
    assert torch.equal(logits, before)


def test_filters_pass_over_what_is_already_forbidden() -> None:
    logits = torch.tensor([0.0, -math.inf, 1.0, -math.inf])
    assert kept(top_p(top_k(logits, 3), 0.999)) == [0, 2]
