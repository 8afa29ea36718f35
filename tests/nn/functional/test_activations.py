"""GELU in three forms: golden values, error bounds, and the constants found again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hanformer.errors import UserError
from hanformer.nn.functional.activations import (
    ACTIVATIONS,
    SIGMOID_SLOPE,
    TANH_COEFFICIENT,
    activation,
    gelu,
    gelu_sigmoid,
    gelu_tanh,
    gelu_tanh_by_definition,
)

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "functions.npz")
GRID = torch.linspace(-6, 6, 12_001, dtype=torch.float64)
#: x³ coefficient of the local (Taylor) match: b/a with a = √(2/π), b = (4 − π)/(3√2·π^1.5).
LOCAL = (4 - math.pi) / (3 * math.sqrt(2) * math.pi**1.5) / math.sqrt(2 / math.pi)


def largest(error: torch.Tensor) -> tuple[float, float]:
    """The maximum of |error| and the |x| where it stands."""
    place = int(error.abs().argmax())
    return float(error[place].abs()), abs(float(GRID[place]))


def tanh_error(coefficient: float) -> torch.Tensor:
    """erf(x/√2) − tanh(√(2/π)(x + c·x³)) on the grid."""
    inner = math.sqrt(2 / math.pi) * (GRID + coefficient * GRID**3)
    return torch.erf(GRID / math.sqrt(2)) - torch.tanh(inner)


def sigmoid_error(slope: float) -> torch.Tensor:
    """Φ(x) − σ(λx) on the grid."""
    return 0.5 * (1 + torch.erf(GRID / math.sqrt(2))) - torch.sigmoid(slope * GRID)


def minimise(objective: Callable[[float], float], low: float, high: float) -> float:
    """Ternary search of a function with one valley."""
    for _ in range(45):
        third = (high - low) / 3
        if objective(low + third) < objective(high - third):
            high -= third
        else:
            low += third
    return (low + high) / 2


@pytest.mark.parametrize(("name", "form"), [("erf", gelu), ("tanh", gelu_tanh)])
def test_golden(name: str, form: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x, expected = torch.from_numpy(GOLDEN["gelu__x"]), torch.from_numpy(GOLDEN[f"gelu__{name}"])
    torch.testing.assert_close(form(x), expected, rtol=1e-6, atol=1e-6)


def test_spot_values() -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for form, values in (
        (gelu, (0.84134475, 1.9544997)),
        (gelu_tanh, (0.84119199, 1.9545976)),
        (gelu_sigmoid, (0.84579577, 1.9356586)),
    ):
        assert form(x).tolist() == pytest.approx(values, abs=1e-7)


@pytest.mark.parametrize(
    ("form", "bound", "at"),
    [(gelu_tanh, 4.732e-4, 2.699), (gelu_sigmoid, 2.0335e-2, 2.27)],
)
def test_distance_from_the_exact_form(
    form: Callable[[torch.Tensor], torch.Tensor], bound: float, at: float
) -> None:
    error, place = largest(form(GRID) - gelu(GRID))
    assert error == pytest.approx(bound, rel=1e-3) and place == pytest.approx(at, abs=0.01)


def test_errors_of_the_surrogate_distributions() -> None:
    error, place = largest(tanh_error(TANH_COEFFICIENT))
    assert error == pytest.approx(3.5787e-4, rel=1e-3) and place == pytest.approx(2.592, abs=2e-3)
    assert largest(tanh_error(LOCAL))[0] == pytest.approx(6.27e-4, rel=1e-2)
    assert largest(gelu_tanh_by_definition(GRID, LOCAL) - gelu(GRID))[0] == pytest.approx(7.46e-4, rel=1e-2)
    assert largest(sigmoid_error(SIGMOID_SLOPE))[0] == pytest.approx(9.486e-3, rel=1e-3)
    assert largest(sigmoid_error(1.7017449256))[0] == pytest.approx(9.457e-3, rel=1e-3)


def test_the_constants_are_minimax() -> None:
    assert pytest.approx(0.0455399, abs=5e-8) == LOCAL
    best = minimise(lambda c: largest(tanh_error(c))[0], 0.04, 0.05)
    assert best == pytest.approx(0.044714911, abs=1e-6) and round(best, 6) == TANH_COEFFICIENT
    slope = minimise(lambda c: largest(sigmoid_error(c))[0], 1.6, 1.8)
    assert slope == pytest.approx(1.7017449, abs=1e-5) and round(slope, 3) == SIGMOID_SLOPE


def test_the_coefficient_that_serves_gelu_itself() -> None:
    def distance(coefficient: float) -> float:
        return largest(gelu_tanh_by_definition(GRID, coefficient) - gelu(GRID))[0]

    best = minimise(distance, 0.04, 0.05)
    assert best == pytest.approx(0.0443829, abs=1e-6) and distance(best) == pytest.approx(3.874e-4, rel=1e-3)


def test_minimum_of_the_exact_form() -> None:
    place = int(gelu(GRID).argmin())
    assert float(gelu(GRID)[place]) == pytest.approx(-0.1699712, abs=2e-7)
    assert float(GRID[place]) == pytest.approx(-0.7517916, abs=1e-3)


def test_definitions() -> None:
    exact = 0.5 * GRID * (1 + torch.erf(GRID / math.sqrt(2)))
    torch.testing.assert_close(gelu(GRID), exact, rtol=0, atol=1e-15)
    torch.testing.assert_close(gelu_tanh(GRID), gelu_tanh_by_definition(GRID), rtol=0, atol=1e-15)


@pytest.mark.parametrize("form", [gelu, gelu_tanh, gelu_sigmoid])
def test_odd_symmetry(form: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.testing.assert_close(form(GRID) - form(-GRID), GRID, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_activation_keeps_shape_dtype_and_large_inputs(name: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[-1e4, -40.0, 0.0, 40.0, 1e4]], dtype=dtype)
    y = activation(name)(x)
    assert y.shape == x.shape and y.dtype == dtype and y.isfinite().all() and not y[0, 2]


def test_unknown_name() -> None:
    with pytest.raises(UserError, match=r"'geluu'.*gelu, gelu_tanh"):
        activation("geluu")
