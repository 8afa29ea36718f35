"""LAMB beside the naive form, and beside the wrapper around AdamW."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.train.optim.lamb import Lamb
from hanformer.train.optim.wrappers import LayerAdaptation
from tests.train.optim import naive
from tests.train.optim.traces import assert_traces, random_case, trace


def adam(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.01, eps=1e-6)


def lamb(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    return Lamb(groups, 0.01, epsilon=1e-6)


def test_a_first_update_in_the_naive_form() -> None:
    start, gradients = random_case(5, 6, updates=1)
    found = trace(lamb, start, gradients, decay=0.3)
    proposals = naive.adam(start, gradients, 0.01, epsilon=1e-6, decay=0.3)
    assert_traces(found, [naive.adapted(start, proposals, 0.01)])


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["matrix", "embedding", "bias", "norm"])
def test_it_is_the_wrapper_around_adamw(kind: str, decay: float) -> None:
    start, gradients = random_case(7, 3)
    expected = trace(lambda g: LayerAdaptation(adam(g)), start, gradients, kind=kind, decay=decay)
    assert_traces(trace(lamb, start, gradients, kind=kind, decay=decay), expected)


def test_norms_of_zero_leave_the_update() -> None:
    zero = torch.zeros(3, 4, dtype=torch.float64)
    start, gradients = random_case(3, 4, updates=1)
    assert_traces(trace(lamb, zero, gradients), trace(adam, zero, gradients))
    assert torch.equal(trace(lamb, start, [zero])[0], start)


def test_tensors_of_many_pieces_and_of_one_share_a_scratch() -> None:
    torch.manual_seed(0)
    shapes = [(3, 5), (1100, 1000), (2,), (40, 7)]
    weights = [[nn.Parameter(torch.randn(shape)) for shape in shapes] for _ in range(2)]
    for one, other in zip(*weights, strict=True):
        other.data.copy_(one.data)
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    ours = Lamb([{"params": weights[0], "weight_decay": 0.1}], 0.01)
    theirs = LayerAdaptation(torch.optim.AdamW([{"params": weights[1], "weight_decay": 0.1}], lr=0.01))
    for _ in range(3):
        ours.step()
        theirs.step()
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_rate_of_zero_moves_nothing() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.ones(4, 4)
    Lamb([weight], 0.0, weight_decay=0.1).step()
    assert torch.equal(weight, torch.ones(4, 4))


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, -0.1)])
def test_betas_out_of_range(betas: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="betas"):
        Lamb([nn.Parameter(torch.ones(1))], betas=betas)
