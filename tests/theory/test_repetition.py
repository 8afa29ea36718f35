"""The repetition measure against its series, its bounds and closed forms; metrics on hand-made texts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.theory.repetition import (
    repeated_bigrams,
    repeated_in_window,
    repeated_ngrams,
    repetition_risk,
)


def test_golden_values() -> None:
    matrix = torch.tensor([[0.1, 0.6, 0.2], [0.5, 0.1, 0.3], [0.3, 0.3, 0.3]], dtype=torch.float64)
    risk = repetition_risk(matrix)
    assert risk.measure == pytest.approx(0.3730518304, abs=1e-9)
    assert risk.lower_by_trace == pytest.approx(0.2197561805, abs=1e-9)
    assert risk.lower_by_diagonal == pytest.approx(0.2513560136, abs=1e-9)
    assert risk.upper == pytest.approx(1.6569432574, abs=1e-9)
    assert risk.root == pytest.approx(0.3558006, abs=1e-6)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0.1, 0.95))
def test_series_and_bounds(seed, size, mass) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(size, size, generator=generator, dtype=torch.float64) ** 3
    matrix = mass * matrix / matrix.sum(1, keepdim=True)
    risk, squares = repetition_risk(matrix), matrix * matrix
    series, power = 0.0, squares
    for _ in range(2000):
        series, power = series + float(power.trace()), power @ squares
    assert risk.measure == pytest.approx(series, rel=1e-9)
    assert risk.lower_by_trace <= risk.measure * (1 + 1e-9) and risk.measure <= risk.upper * (1 + 1e-9)
    assert risk.lower_by_diagonal <= risk.measure * (1 + 1e-9)
    sums = squares.sum(1)
    assert float(sums.min()) - 1e-9 <= risk.root <= float(sums.max()) + 1e-9


def test_closed_forms() -> None:
    risk = repetition_risk(torch.full((5, 5), 0.2))
    assert (risk.root, risk.measure) == (pytest.approx(0.2), pytest.approx(0.25))
    cycle = repetition_risk(torch.eye(3).roll(1, 0))
    assert cycle.measure == cycle.upper == math.inf
    with pytest.raises(UserError, match="square"):
        repetition_risk(torch.ones(2, 3))
    with pytest.raises(UserError, match="at most 1"):
        repetition_risk(torch.ones(2, 2))


def test_metrics_by_hand() -> None:
    assert repeated_ngrams("aaaa") == pytest.approx(0.6) and repeated_ngrams("") == 0.0
    assert repeated_ngrams("abcd") == 0.0
    assert repeated_in_window("abab") == 0.5 and repeated_in_window("a" + "b" * 2, 1) == pytest.approx(1 / 3)
    assert repeated_bigrams("abcab") == pytest.approx(4 / 5) and repeated_bigrams("a") == 0.0
