"""Accumulation inside the moments against the definition: one update by the mean of k gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hanformer.errors import UserError
from hanformer.train.optim.accumulation import AccumulatingAdamW, AccumulatingMomentum, absorb
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from tests.harness.optimizers import check_optimizer
from tests.train.optim import naive
from tests.train.optim.traces import assert_traces, random_case, trace
from tests.train.tiny import SameSource, TinySource, objective, same_weights, tiny_model


def groups_of_calls(gradients: list[Tensor], count: int) -> list[Tensor]:
    """The mean of each `count` gradients."""
    return [
        torch.stack(gradients[start : start + count]).mean(0) for start in range(0, len(gradients), count)
    ]


def momentum(start: Tensor, gradients: list[Tensor], rate: float, beta: float, decay: float) -> list[Tensor]:
    """m ← βm + (1 − β)g; w ← w − η(m + λw), written out."""
    found, first = [], torch.zeros_like(start)
    for gradient in gradients:
        first = beta * first + (1 - beta) * gradient
        start = (1 - rate * decay) * start - rate * first
        found.append(start)
    return found


@given(st.integers(1, 6), st.integers(1, 8), st.floats(0, 0.99), st.integers(0, 10**6))
def test_momentum_is_exact(count: int, updates: int, beta: float, seed: int) -> None:
    start, gradients = random_case(3, 4, updates=count * updates, seed=seed)
    found = trace(
        lambda g: AccumulatingMomentum(g, 0.1, beta=beta, accumulate=count), start, gradients, decay=0.2
    )
    expected = momentum(start, groups_of_calls(gradients, count), 0.1, beta, 0.2)
    assert_traces(found[count - 1 :: count], expected, 1e-13)
    still = [start, *expected]
    for place, weight in enumerate(found):
        torch.testing.assert_close(weight, still[(place + 1) // count], rtol=0, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_adam_is_exact_where_micro_batches_agree(count: int) -> None:
    start, gradients = random_case(3, 4, updates=9)
    repeated = [gradient for gradient in gradients for _ in range(count)]
    found = trace(lambda g: AccumulatingAdamW(g, 0.01, accumulate=count), start, repeated, decay=0.2)
    assert_traces(found[count - 1 :: count], naive.adam(start, gradients, 0.01, decay=0.2))


def test_adam_holds_the_mean_of_the_squares_otherwise() -> None:
    """The definition, and shorter steps than by the square of the mean."""
    start, gradients = random_case(3, 4, updates=12)
    found = trace(lambda g: AccumulatingAdamW(g, 0.01, accumulate=3), start, gradients)[2::3]
    first, second, weight, expected = torch.zeros_like(start), torch.zeros_like(start), start, []
    for update in range(1, 5):
        group = torch.stack(gradients[3 * update - 3 : 3 * update])
        first = 0.9 * first + 0.1 * group.mean(0)
        second = 0.999 * second + 0.001 * group.square().mean(0)
        scaled = (second / (1 - 0.999**update)).sqrt() + 1e-8
        weight = weight - 0.01 * first / (1 - 0.9**update) / scaled
        expected.append(weight)
    assert_traces(found, expected)
    exact = naive.adam(start, groups_of_calls(gradients, 3), 0.01)
    assert (found[0] - start).abs().max() < (exact[0] - start).abs().max()


def test_the_published_coefficients() -> None:
    """m_t = [(β − 1) χ((t − 1)/k) + 1] m_(t−1) + (1 − β)/k g_t."""
    moment, values = torch.zeros(1, dtype=torch.float64), torch.arange(1.0, 8.0, dtype=torch.float64)
    expected = 0.0
    for call, value in enumerate(values, 1):
        absorb([moment], [value[None]], 0.9, call, 3)
        kept = (0.9 - 1) * ((call - 1) % 3 == 0) + 1
        expected = kept * expected + 0.1 / 3 * float(value)
        assert float(moment) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("rule", "rate"), [(AccumulatingMomentum, 0.3), (AccumulatingAdamW, 0.05)])
def test_every_check_of_a_rule(rule: Any, rate: float) -> None:
    check_optimizer(lambda groups, options: rule(groups, options.learning_rate), rate)


@pytest.mark.parametrize("rule", [AccumulatingMomentum, AccumulatingAdamW])
def test_the_memory_is_that_of_the_moments(rule: Any) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = rule([{"params": [weight], "weight_decay": 0.0}], accumulate=4)
    for _ in range(3):
        weight.grad = torch.ones(3)
        optimizer.step()
    kept = {name for name, value in optimizer.state[weight].items() if isinstance(value, Tensor)}
    assert kept == ({"first"} if rule is AccumulatingMomentum else {"first", "second"})
    assert torch.equal(weight, torch.ones(3))


def test_in_a_trainer_it_equals_accumulation_by_the_trainer() -> None:
    """Where micro-batches have one count, and nothing is clipped."""
    batches = TinySource(sizes=(4, 4, 4)).batches(0)
    found = []
    for inside, outside in ((3, 1), (1, 3)):
        model = tiny_model().double()
        options = TrainOptions(
            updates=30 * inside, accumulate=outside, learning_rate=0.1, clip_norm=None, schedule="constant"
        )
        Trainer(
            model,
            objective,
            SameSource(batches),
            options,
            optimizer=lambda groups, o, k=inside: AccumulatingMomentum(groups, o.learning_rate, accumulate=k),
        ).fit()
        found.append(model)
    for ours, theirs in zip(found[0].parameters(), found[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    assert not same_weights(found[0], tiny_model().double())


@pytest.mark.parametrize("numbers", [{"accumulate": 0}, {"beta": 1.0}])
def test_senseless_numbers(numbers: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        AccumulatingMomentum([{"params": [torch.nn.Parameter(torch.ones(1))]}], **numbers)
