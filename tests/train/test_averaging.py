from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.train.averaging import (
    ExponentialAverage,
    LastAverage,
    WeightAverage,
    averaged,
    make_average,
    moving_weight,
)
from tests.train.tiny import tiny_model


def walk(average: WeightAverage, parameter: Tensor, values: list[Tensor]) -> list[Tensor]:
    """The averages along a walk of one parameter."""
    seen = []
    for update, value in enumerate(values, start=1):
        parameter.data.copy_(value)
        average.follow(update)
        seen.append(average.values()[0].clone() if average.values() else torch.empty(0))
    return seen


def test_exponential_equals_the_bias_corrected_sum() -> None:
    decay, values = 0.9, list(torch.randn(12, 3, dtype=torch.float64))
    parameter = torch.zeros(3, dtype=torch.float64)
    seen = walk(ExponentialAverage([parameter], decay), parameter, values)
    running = torch.zeros(3, dtype=torch.float64)
    for update, value in enumerate(values, start=1):
        running = decay * running + (1 - decay) * value
        torch.testing.assert_close(seen[update - 1], running / (1 - decay**update))


def test_constant_weights_average_to_themselves() -> None:
    parameter = torch.randn(4)
    for value in walk(ExponentialAverage([parameter], 0.999), parameter, [parameter.clone()] * 50):
        torch.testing.assert_close(value, parameter)


def test_decay_zero_is_the_newest() -> None:
    assert moving_weight(7, 0.0) == 1.0
    with pytest.raises(UserError, match="average_decay"):
        ExponentialAverage([], 1.0)


def test_last_is_the_mean_of_the_last_snapshots() -> None:
    values = list(torch.arange(1.0, 11.0).view(10, 1))
    parameter = torch.zeros(1)
    seen = walk(LastAverage([parameter], count=3, every=2), parameter, values)
    assert seen[0].numel() == 0
    assert [float(value) for value in seen[1::2]] == [2.0, 3.0, 4.0, 6.0, 8.0]


@pytest.mark.parametrize("word", ["ema", "last"])
def test_swapping_in_and_out_is_exact_even_after_an_error(word: str) -> None:
    model = tiny_model()
    parameters = list(model.parameters())
    average = make_average(word, parameters, count=2, every=1)
    before = [parameter.detach().clone() for parameter in parameters]
    average.follow(1)
    for parameter in parameters:
        parameter.data.add_(torch.randn_like(parameter))
    average.follow(2)
    after = [parameter.detach().clone() for parameter in parameters]
    with pytest.raises(RuntimeError), averaged(parameters, average):
        middle = [(old + new) / 2 for old, new in zip(before, after, strict=True)]
        for parameter, expected in zip(parameters, middle, strict=True):
            torch.testing.assert_close(parameter.detach(), expected, atol=1e-3, rtol=1e-3)
        raise RuntimeError
    assert all(torch.equal(parameter, kept) for parameter, kept in zip(parameters, after, strict=True))


@pytest.mark.parametrize("word", ["none", "ema", "last"])
def test_state_round_trip(word: str) -> None:
    parameters = [torch.randn(3), torch.randn(2, 2)]
    first = make_average(word, parameters, count=3, every=1)
    second = make_average(word, parameters, count=3, every=1)
    for update in range(1, 6):
        first.follow(update)
        parameters[0].add_(1.0)
    second.restore(first.state())
    for average in (first, second):
        average.follow(6)
    for left, right in zip(first.values(), second.values(), strict=True):
        assert torch.equal(left, right)


def test_half_precision_is_averaged_in_fp32() -> None:
    parameter = torch.ones(2, dtype=torch.bfloat16)
    average = ExponentialAverage([parameter], 0.999)
    average.follow(1)
    parameter.add_(1.0)
    average.follow(2)
    assert average.values()[0].dtype == torch.float32
    torch.testing.assert_close(average.values()[0], torch.full((2,), 1.5), atol=1e-3, rtol=0)


def test_unknown_word() -> None:
    with pytest.raises(UserError, match="none, ema, last"):
        make_average("polyak", [])
