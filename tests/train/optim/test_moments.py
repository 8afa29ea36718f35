"""AdaX and uncorrected Adam against their definitions, to a million updates and beyond."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hanformer.train.optim.moments import AdaX, UncorrectedAdam, adax, adax_coefficient, adaxw
from hanformer.train.options import TrainOptions
from tests.train.optim import naive
from tests.train.optim.traces import assert_traces, random_case, trace


def exact_coefficient(step: int, growth: str = "0.0001") -> Decimal:
    with localcontext() as context:
        context.prec = 60
        power = (1 + Decimal(growth)) ** step
        return 1 - Decimal(growth) / (power - 1)


@pytest.mark.parametrize("step", [1, 2, 3, 10, 100, 1000, 10**4, 10**5, 10**6, 10**7])
def test_coefficient_is_exact(step: int) -> None:
    assert adax_coefficient(step) == pytest.approx(float(exact_coefficient(step)), abs=2e-16)
    assert adax_coefficient(step) < 1


def test_coefficients_by_table() -> None:
    table = {2: 0.5000249988, 10: 0.9000449918, 100: 0.9900494167, 1000: 0.9990491168}
    for step, expected in table.items():
        assert adax_coefficient(step) == pytest.approx(expected, abs=1e-10)
    assert adax_coefficient(1) == 0.0


def test_a_million_updates() -> None:
    """The coefficient rises all the way, and neither overflows nor reaches 1."""
    last = -1.0
    for step in range(1, 1_000_001):
        found = adax_coefficient(step)
        if not last <= found < 1.0:
            raise AssertionError((step, last, found))
        last = found
    assert adax_coefficient(10**15) == last


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("past", [10**6, 10**9])
def test_updates_after_a_million(past: int, dtype: torch.dtype) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0], dtype=dtype))
    optimizer = AdaX([{"params": [weight]}], 0.1)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    optimizer.state[weight].update(step=past, second=torch.tensor([4.0, 9.0], dtype=dtype))
    optimizer.state[weight]["first"].zero_()
    start = weight.detach().clone()
    weight.grad = torch.tensor([1.0, -30.0], dtype=dtype)
    optimizer.step()
    expected = start - 0.1 * 0.1 * torch.tensor([1 / 2, -30 / 3], dtype=dtype)
    torch.testing.assert_close(weight.detach(), expected)
    torch.testing.assert_close(optimizer.state[weight]["second"], torch.tensor([4.0, 9.0], dtype=dtype))


def test_three_updates_by_hand() -> None:
    gradients = [torch.tensor([value], dtype=torch.float64) for value in (1.0, -0.5, 0.25)]
    found = trace(lambda g: AdaX(g, 1e-3, epsilon=0.0), torch.zeros(1, dtype=torch.float64), gradients)
    assert_traces(found, torch.tensor([[-1.0e-4], [-1.5059568e-4], [-2.4281572e-4]]).double(), 1e-11)


def test_a_single_impulse_moves_as_far_as_the_series_says() -> None:
    gradients = [torch.zeros(1, dtype=torch.float64) for _ in range(400)]
    gradients[0] = torch.ones(1, dtype=torch.float64)
    found = trace(lambda g: AdaX(g, 1.0, epsilon=0.0), torch.zeros(1, dtype=torch.float64), gradients)
    assert float(found[-1]) == pytest.approx(-2.855543514903, abs=1e-9)


@pytest.mark.parametrize("decoupled", [False, True])
def test_both_forms_of_adax_agree(decoupled: bool) -> None:
    start, gradients = random_case(3, 4, updates=2000)
    found = trace(lambda g: AdaX(g, 1e-3, growth=1e-3, decoupled=decoupled), start, gradients, decay=0.1)
    decays = {"decay": 0.1} if decoupled else {"added": 0.1}
    assert_traces(found, naive.adax(start, gradients, 1e-3, growth=1e-3, **decays), 1e-11)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 70),
    beta=st.floats(0, 0.99),
    second=st.floats(0, 0.9999),
    decay=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_uncorrected_adam(
    rows: int, columns: int, beta: float, second: float, decay: float, seed: int
) -> None:
    start, gradients = random_case(rows, columns, updates=4, seed=seed)
    found = trace(
        lambda g: UncorrectedAdam(g, 0.01, betas=(beta, second), epsilon=1e-3), start, gradients, decay=decay
    )
    betas = (beta, second)
    expected = naive.adam(start, gradients, 0.01, betas=betas, epsilon=1e-3, decay=decay, corrected=False)
    assert_traces(found, expected)


def test_rules_take_their_options() -> None:
    start, gradients = random_case(2, 3)
    options = TrainOptions(updates=1, learning_rate=0.02, betas=(0.8, 0.5), epsilon=0.01)
    found = trace(lambda g: adaxw(g, options), start, gradients, decay=0.3)
    assert_traces(found, naive.adax(start, gradients, 0.02, beta=0.8, epsilon=0.01, decay=0.3))
    found = trace(lambda g: adax(g, options), start, gradients, decay=0.3)
    assert_traces(found, naive.adax(start, gradients, 0.02, beta=0.8, epsilon=0.01, added=0.3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_the_kernel_of_a_gpu_takes_the_same_coefficients() -> None:
    for past in (0, 10**6):
        weights = [nn.Parameter(torch.ones(5, device=device)) for device in ("cpu", "cuda")]
        for weight in weights:
            optimizer = AdaX([{"params": [weight]}], 0.1)
            for number in range(3):
                weight.grad = torch.arange(5.0, device=weight.device) + 1
                optimizer.step()
                optimizer.state[weight]["step"] += past if number == 0 else 0
        torch.testing.assert_close(weights[0], weights[1].cpu())
