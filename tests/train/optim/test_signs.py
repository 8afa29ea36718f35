"""Lion and Tiger against their definitions, and accumulation without a buffer."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.train.optim.signs import LION_BETAS, TIGER_BETA, Lion, Tiger, lion, tiger
from hanformer.train.options import TrainOptions
from tests.train.optim import naive
from tests.train.optim.traces import assert_traces, random_case, trace


def test_three_updates_by_hand() -> None:
    gradients = [torch.tensor([value], dtype=torch.float64) for value in (1.0, -1.0, -20.0)]
    start = torch.tensor([2.0], dtype=torch.float64)
    # m: 0, .02, -.0004, and the signs of .05, .95·.02 - .05, .95·(-.0004) - 1.
    found = trace(lambda g: Lion(g, 0.1), start, gradients)
    assert_traces(found, torch.tensor([[1.9], [2.0], [2.1]], dtype=torch.float64))
    # Tiger's m with β = .5: .5, -.25, -10.125.
    found = trace(lambda g: Tiger(g, 0.1, beta=0.5), start, gradients, decay=0.5)
    expected = [2 * 0.95 - 0.1, 1.8 * 0.95 + 0.1, 1.81 * 0.95 + 0.1]
    assert_traces(found, torch.tensor(expected, dtype=torch.float64)[:, None])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    size=st.integers(1, 40),
    first=st.floats(0, 0.99),
    second=st.floats(0, 0.99),
    decay=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_lion(size: int, first: float, second: float, decay: float, seed: int) -> None:
    start, gradients = random_case(size, updates=6, seed=seed)
    found = trace(lambda g: Lion(g, 0.01, betas=(first, second)), start, gradients, decay=decay)
    assert_traces(found, naive.lion(start, gradients, 0.01, betas=(first, second), decay=decay))


def test_tiger_is_lion_with_one_beta() -> None:
    start, gradients = random_case(5, 7, updates=30)
    found = trace(lambda g: Tiger(g, 0.01, beta=0.9), start, gradients, decay=0.2)
    assert_traces(found, trace(lambda g: Lion(g, 0.01, betas=(0.9, 0.9)), start, gradients, decay=0.2))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(every=st.integers(1, 6), groups=st.integers(1, 5), rest=st.integers(0, 5), seed=st.integers(0, 99))
def test_accumulation_inside_the_momentum(every: int, groups: int, rest: int, seed: int) -> None:
    """Every k-th call moves, by the mean of k gradients; a group that is not full moves nothing."""
    rest = min(rest, every - 1)
    start, gradients = random_case(4, 3, updates=every * groups + rest, seed=seed)
    found = trace(lambda g: Tiger(g, 0.01, accumulate=every), start, gradients, decay=0.2)
    means = [torch.stack(gradients[at * every : (at + 1) * every]).mean(0) for at in range(groups)]
    assert_traces(found[every - 1 :: every], trace(lambda g: Tiger(g, 0.01), start, means, decay=0.2))
    assert all(torch.equal(weight, start) for weight in found[: every - 1])
    assert all(torch.equal(weight, found[every * groups - 1]) for weight in found[every * groups :])


def test_betas_left_alone_are_the_rules_own() -> None:
    start, gradients = random_case(6, updates=40)
    plain = TrainOptions(updates=1, learning_rate=0.01)
    chosen = TrainOptions(updates=1, learning_rate=0.01, betas=(0.5, 0.6))
    assert_traces(
        trace(lambda g: lion(g, plain), start, gradients),
        naive.lion(start, gradients, 0.01, betas=LION_BETAS),
    )
    assert_traces(
        trace(lambda g: lion(g, chosen), start, gradients),
        naive.lion(start, gradients, 0.01, betas=(0.5, 0.6)),
    )
    for options, beta in ((plain, TIGER_BETA), (chosen, 0.5)):
        expected = naive.lion(start, gradients, 0.01, betas=(beta, beta))
        assert_traces(trace(lambda g, o=options: tiger(g, o), start, gradients), expected)
