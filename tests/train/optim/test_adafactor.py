"""AdaFactor against its definition, torch's own where they agree, and what factoring promises."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from hanformer.train.optim.adafactor import AdaFactor, adafactor, constant_rate, factored_axes, relative_step
from hanformer.train.options import TrainOptions
from tests.train.optim import naive
from tests.train.optim.traces import assert_traces, random_case, trace


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((300,), None),
        ((127, 4000), None),
        ((128, 128), (0, 1)),
        ((500, 200), (1, 0)),
        ((3, 130, 200), (1, 2)),
        ((200, 3, 130), (2, 0)),
        ((), None),
    ],
)
def test_the_two_largest_axes(shape: tuple[int, ...], axes: tuple[int, int] | None) -> None:
    found = factored_axes(shape)
    assert found == axes or (shape == (128, 128) and found is not None and sorted(found) == [0, 1])


@pytest.mark.parametrize("beta", [0.0, 0.9])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (2, 5, 7), (7, 2, 5)])
def test_factored(shape: tuple[int, ...], beta: float) -> None:
    start, gradients = random_case(*shape)
    axes = factored_axes(shape, 5)
    assert axes is not None
    found = trace(lambda g: AdaFactor(g, 0.05, beta=beta, smallest=5), start, gradients, decay=0.1)
    assert_traces(found, naive.adafactor(start, gradients, 0.05, beta=beta, axes=axes, decay=0.1))


@pytest.mark.parametrize("block", [1, 20, 27, 45])
@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_blocks_of_rows_move_as_the_whole(
    shape: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of one row, of some with a rest, and of some that divide the rows."""
    monkeypatch.setattr("hanformer.train.optim.adafactor._BLOCK", block)
    test_factored(shape, 0.0)
    test_factored(shape, 0.9)


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(7,), (3, 4), ()])
def test_whole(shape: tuple[int, ...], beta: float) -> None:
    start, gradients = random_case(*shape)
    found = trace(lambda g: AdaFactor(g, 0.05, beta=beta), start, gradients, decay=0.1)
    assert_traces(found, naive.adafactor(start, gradients, 0.05, beta=beta, decay=0.1))


def test_relative_steps_and_kinds_without_scale() -> None:
    start, gradients = random_case(4, updates=1)
    scaled = trace(lambda g: AdaFactor(g, 1.0, rate=relative_step), start, gradients)
    assert_traces(scaled, naive.adafactor(start, gradients, 0.01))
    bare = trace(
        lambda g: AdaFactor(g, 1.0, rate=relative_step, unscaled=("bias",)), start, gradients, kind="bias"
    )
    assert_traces(bare, naive.adafactor(start, gradients, 0.01 * 0.05, scaled=False))
    constant = trace(lambda g: AdaFactor(g, 0.01, unscaled=("bias",)), start, gradients, kind="bias")
    assert_traces(constant, naive.adafactor(start, gradients, 0.01, scaled=False))
    assert [relative_step(step) for step in (1, 10**4, 10**6)] == [0.01, 0.01, 0.001]
    assert constant_rate(7) == 1.0


def test_coefficients_by_table() -> None:
    """1 - t^-0.8, seen in the squares that are kept."""
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = AdaFactor([{"params": [weight]}])
    kept = {}
    for step in range(1, 101):
        before = float(optimizer.state[weight].get("square", torch.zeros(1)))
        gradient = float(step % 3 + 1)
        weight.grad = torch.full((1,), gradient, dtype=torch.float64)
        optimizer.step()
        after = float(optimizer.state[weight]["square"])
        if step > 1 and before != gradient**2:
            kept[step] = (after - gradient**2) / (before - gradient**2)
    for step, expected in {2: 0.4256508225, 10: 0.8415106807, 100: 0.9748811357}.items():
        assert kept[step] == pytest.approx(expected, abs=1e-9)


def test_equals_torch_where_both_agree() -> None:
    """128 by 128, where both factor the last two axes; torch's rate is min(lr, 1/sqrt(t))."""
    start, gradients = random_case(128, 128, updates=20)
    found = trace(lambda g: AdaFactor(g, 0.01), start, gradients, decay=0.1)
    peer = trace(lambda g: torch.optim.Adafactor(g, lr=0.01, eps=(1e-30, 1e-3)), start, gradients, decay=0.1)
    assert_traces(found, peer, 1e-7)


def test_squares_of_rank_one_are_kept_exactly() -> None:
    rows, columns = torch.rand(130, 1).double() + 0.1, torch.rand(1, 140).double() + 0.1
    weight = nn.Parameter(torch.randn(130, 140).double())
    optimizer = AdaFactor([{"params": [weight]}])
    for _ in range(3):
        weight.grad = (rows * columns).sqrt()
        optimizer.step()
    state = optimizer.state[weight]
    product = state["row"] * state["column"] / state["row"].mean()
    torch.testing.assert_close(product, rows * columns)
    assert set(state) == {"step", "row", "column"}


def test_updates_are_clipped_and_relative() -> None:
    start, gradients = random_case(150, 130, updates=6)
    weights = [
        start,
        *trace(lambda g: AdaFactor(g, 0.01), start, [1e4**n * g for n, g in enumerate(gradients)]),
    ]
    for before, after in itertools.pairwise(weights):
        size = float((after - before).square().mean().sqrt() / before.square().mean().sqrt())
        assert 0 < size <= 0.01 * (1 + 1e-9)


def test_no_gradient_at_all_and_tiny_ones_stay_finite() -> None:
    start = torch.randn(130, 140)
    gradients = [torch.zeros_like(start), 1e-20 * torch.randn(130, 140), torch.zeros_like(start)]
    found = trace(lambda g: AdaFactor(g, 0.01), start, gradients)
    assert all(weight.isfinite().all() for weight in found) and torch.equal(found[0], start)


def test_the_rule_takes_its_rate() -> None:
    start, gradients = random_case(3, 4)
    options = TrainOptions(updates=1, learning_rate=0.03)
    found = trace(lambda g: adafactor(g, options), start, gradients)
    assert_traces(found, naive.adafactor(start, gradients, 0.03))
    assert math.isclose(float((found[0] - start).norm() / start.norm()), 0.03, rel_tol=1e-9)
