"""Even Taylor softmax: its minima, its limits, and what half precision can do to it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.nn.functional.attend import attend_explicit
from hanformer.nn.functional.normalisers import TaylorSoftmax, minimum_place, polynomial
from tests.harness import EXACT

#: n, x*, f_n(x*): kexue.fm/archives/7919 and a calculation of its own.
MINIMA = (
    (2, -1.0, 0.5),
    (4, -1.59607, 0.270395),
    (6, -2.18061, 0.149325),
    (8, -2.75900, 0.0832715),
    (10, -3.33355, 0.0466991),
)


@pytest.mark.parametrize(("order", "place", "value"), MINIMA)
def test_minima(order: int, place: float, value: float) -> None:
    found = minimum_place(order)
    assert found == pytest.approx(place, abs=6e-6)
    least = polynomial(torch.tensor(found, dtype=torch.float64), order)
    assert float(least) == pytest.approx(value, rel=2e-6)
    assert float(least) == pytest.approx(found**order / math.factorial(order), rel=1e-9)
    grid = torch.linspace(-50, 50, 20_001, dtype=torch.float64)
    assert (polynomial(grid, order) >= least).all()


@given(st.floats(-30, 30), st.integers(1, 12), st.floats(1, 40))
def test_polynomial(x: float, order: int, scale: float) -> None:
    expected = math.fsum(x**m / math.factorial(m) for m in range(order + 1)) / scale**order
    found = float(polynomial(torch.tensor(x, dtype=torch.float64), order, scale))
    largest = max(abs(x) ** m / math.factorial(m) for m in range(order + 1)) / scale**order
    assert found == pytest.approx(expected, abs=1e-13 * (1 + largest))


def test_it_comes_near_softmax() -> None:
    logits = torch.randn(5, 7, dtype=torch.float64)
    away = [float((TaylorSoftmax(n)(logits) - logits.softmax(-1)).abs().max()) for n in (2, 6, 12, 20)]
    assert away == sorted(away, reverse=True) and away[-1] < 1e-10


@pytest.mark.parametrize("monotone", [False, True])
def test_weights(monotone: bool) -> None:
    """The definition, in plain numbers."""
    logits = [-4.0, -1.0, 0.0, 2.5]
    place = minimum_place(4)
    values = [
        sum((max(x, place) if monotone else x) ** m / math.factorial(m) for m in range(5)) for x in logits
    ]
    expected = torch.tensor([value / sum(values) for value in values], dtype=torch.float64)
    normalise = TaylorSoftmax(4, monotone=monotone)
    found = normalise(torch.tensor(logits, dtype=torch.float64))
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(
        normalise.log(torch.tensor(logits, dtype=torch.float64)), expected.log(), **EXACT
    )
    assert (found[1:] >= found[:-1]).all() == monotone


def test_what_is_hidden_weighs_nothing() -> None:
    hidden = float("-inf")
    logits = torch.tensor([[hidden, 1.0, hidden], [hidden] * 3], dtype=torch.float64, requires_grad=True)
    weights = TaylorSoftmax()(logits)
    assert weights.tolist() == [[0, 1, 0], [0, 0, 0]]
    weights.sum().backward()
    assert logits.grad.isfinite().all()
    assert TaylorSoftmax().log(logits)[0].tolist() == [hidden, 0, hidden]
    assert TaylorSoftmax()(torch.zeros(2, 0)).shape == (2, 0)


@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize("order", [2, 10])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extremes(dtype: torch.dtype, order: int, monotone: bool) -> None:
    most = torch.finfo(dtype).max
    logits = torch.tensor([[most, -most, 1.0], [-most, -most, 0.0], [1e-7, 0.0, -1e-7]], dtype=dtype)
    logits.requires_grad_()
    weights = TaylorSoftmax(order, monotone=monotone)(logits)
    weights.square().sum().backward()
    assert weights.dtype == dtype and weights.isfinite().all() and logits.grad.isfinite().all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, dtype=dtype))


@pytest.mark.parametrize("monotone", [False, True])
def test_gradients(monotone: bool) -> None:
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    normalise = TaylorSoftmax(4, monotone=monotone)
    assert torch.autograd.gradcheck(normalise, logits) and torch.autograd.gradcheck(normalise.log, logits)
    assert torch.autograd.gradgradcheck(normalise, logits)


def test_in_attention() -> None:
    """As normaliser of explicit attention: rows sum to 1 over what is seen, empty ones to 0."""
    logits, value = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 3)
    visible = torch.ones(4, 4).tril(-1).bool()
    mixed, weights = attend_explicit(logits, value, visible, TaylorSoftmax())
    torch.testing.assert_close(weights.sum(-1), torch.tensor([0.0, 1, 1, 1]).expand(2, 1, 4))
    assert not mixed[:, :, 0].any() and not weights[..., 0, :].any()


@pytest.mark.parametrize("order", [0, 1, 3, -2, 2.0])
def test_odd_orders(order: int) -> None:
    with pytest.raises(UserError, match="expected an even order of at least 2"):
        TaylorSoftmax(order)
