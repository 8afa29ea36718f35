"""The digits of GELU's constants and errors, as published and recomputed."""

from __future__ import annotations

import math

import pytest
import torch

from hanformer.errors import UserError
from hanformer.lab.gelu import (
    LOCAL_COEFFICIENT,
    Options,
    find_constants,
    gelu_error,
    least_maximum,
    sigmoid_error,
    tanh_error,
)
from hanformer.nn.functional.activations import SIGMOID_SLOPE, TANH_COEFFICIENT

GRID = torch.linspace(0, 6, 20_001, dtype=torch.float64)


def test_constants_and_errors() -> None:
    found = find_constants(Options())
    assert found.tanh == pytest.approx(0.044714911, abs=2e-8) and round(found.tanh, 6) == TANH_COEFFICIENT
    assert found.tanh_error == pytest.approx(3.5784e-4, abs=1e-8)
    assert found.sigmoid == pytest.approx(1.7017449, abs=2e-6) and round(found.sigmoid, 3) == SIGMOID_SLOPE
    assert found.sigmoid_error == pytest.approx(9.457e-3, rel=1e-4)
    assert found.direct == pytest.approx(0.0443829, abs=2e-7)
    assert found.direct_error == pytest.approx(3.874e-4, rel=1e-4)


def test_the_series_at_zero() -> None:
    """erf(x/√2) = √(2/π)(x − x³/6 + …) and tanh(ax + bx³) = ax + (b − a³/3)x³ + …: the difference is of fifth order."""
    a, b = math.sqrt(2 / math.pi), (4 - math.pi) / (3 * math.sqrt(2) * math.pi**1.5)
    assert pytest.approx(b / a, rel=1e-12) == LOCAL_COEFFICIENT
    assert b == pytest.approx(0.0363356, abs=5e-8) and pytest.approx(0.0455399, abs=5e-8) == LOCAL_COEFFICIENT
    near, nearer = (float(tanh_error(torch.tensor(x).double(), LOCAL_COEFFICIENT)) for x in (0.02, 0.01))
    assert near / nearer == pytest.approx(32, rel=1e-2)
    assert float(tanh_error(GRID, LOCAL_COEFFICIENT).abs().max()) == pytest.approx(6.27e-4, rel=1e-3)
    assert float(gelu_error(GRID, LOCAL_COEFFICIENT).abs().max()) == pytest.approx(7.46e-4, rel=1e-3)


def test_errors_of_what_is_in_use() -> None:
    for error, value, largest, at in (
        (tanh_error(GRID, TANH_COEFFICIENT), TANH_COEFFICIENT, 3.5787e-4, 2.592),
        (gelu_error(GRID, TANH_COEFFICIENT), TANH_COEFFICIENT, 4.732e-4, 2.699),
        (GRID * sigmoid_error(GRID, SIGMOID_SLOPE), SIGMOID_SLOPE, 2.0335e-2, 2.27),
    ):
        place = int(error.abs().argmax())
        assert float(error[place].abs()) == pytest.approx(largest, rel=1e-4), value
        assert float(GRID[place]) == pytest.approx(at, abs=6e-3)


def test_the_search_finds_a_known_least_maximum() -> None:
    """The best line through 0 for x² on [0, 1]: the error is largest inside at s/2 and at the end, s²/4 = 1 − s."""
    best, height = least_maximum(lambda x, slope: x**2 - slope * x, GRID / 6, 0.0, 1.0)
    assert best == pytest.approx(2 * math.sqrt(2) - 2, abs=1e-6) and height == pytest.approx(
        1 - best, abs=1e-6
    )


@pytest.mark.parametrize(
    "changes", [{"points": 99}, {"reach": 2.9}, {"reach": 1e9}, {"points": 100, "reach": 7.0}]
)
def test_grids_that_miss_the_largest_errors_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UserError, match="largest errors lie between or beyond"):
        Options(**changes)


def test_the_coarsest_grids_find_the_same_constants() -> None:
    for options in (Options(points=100), Options(reach=3.0)):
        found = find_constants(options)
        assert found.tanh == pytest.approx(0.044715, abs=2e-5)
        assert found.sigmoid == pytest.approx(1.7017, abs=1e-3)
