"""BatchNorm: the identity of its gradient, its invariances, the smoothness of least squares, and the experiment."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.lab import run_experiment
from hanformer.lab.batchnorm import PLACES, Options, make_data, make_network, train
from hanformer.lab.smoothness import (
    along_gradient,
    batch_norm,
    gradient_square,
    normalise,
    regression,
)

SMALL = Options(examples=64, features=5, depth=3, width=8, steps=20, every=4)


def _gradients(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, ∂L/∂y, G, γ, and ŷ with its σ, of a loss that is no sum over rows or features."""
    generator = torch.Generator().manual_seed(seed)
    y = (torch.randn(rows, columns, generator=generator, dtype=torch.float64) * 3 + 5).requires_grad_()
    gain = torch.randn(columns, generator=generator, dtype=torch.float64)
    weight = torch.randn(columns, 4, generator=generator, dtype=torch.float64)
    normalised, std = batch_norm(y)
    z = gain * normalised + 0.3
    z.retain_grad()
    ((z @ weight).tanh().sum(1) ** 2).logsumexp(0).backward()
    assert y.grad is not None and z.grad is not None
    return y.grad, z.grad, gain, normalised.detach(), std.detach()


@given(st.integers(3, 40), st.integers(1, 6), st.integers(0, 1000))
@settings(deadline=None, derandomize=True, max_examples=12)
def test_the_identity_of_the_gradient(rows: int, columns: int, seed: int) -> None:
    inner, outer, gain, normalised, std = _gradients(rows, columns, seed)
    expected = gradient_square(outer, normalised, std, gain)
    torch.testing.assert_close(inner.square().sum(0), expected, rtol=1e-9, atol=1e-12)


def test_no_gradient_along_the_mean_and_along_itself() -> None:
    inner, outer, gain, normalised, std = _gradients(20, 3, 0)
    assert float(inner.sum(0).abs().max()) < 1e-12
    assert float((inner * normalised).sum(0).abs().max()) < 1e-12
    assert float(outer.sum(0).abs().max()) > 1e-3
    bound = (gain / std).square() * outer.square().sum(0)
    assert bool((inner.square().sum(0) < bound).all())


def test_shifts_and_scales_do_not_matter() -> None:
    y = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(batch_norm(3.0 * y - 7.0)[0], batch_norm(y)[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        batch_norm(y)[0], nn.BatchNorm1d(4, eps=1e-300, affine=False, track_running_stats=False)(y)
    )


@pytest.mark.parametrize(("centre", "scale"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_largest_rate_is_two_by_lambda(centre: bool, scale: bool) -> None:
    inputs, _ = make_data(Options(features=6))
    found = regression(normalise(inputs, centre, scale))
    assert found.measured == pytest.approx(found.largest_rate, rel=0.01)


def test_centring_lowers_lambda_and_scaling_mends_the_condition() -> None:
    """With mean 10 the raw λ is near 2 ‖E x‖²; the square sum is least at the mean."""
    inputs, _ = make_data(Options(features=6))
    raw, centred, both = (
        regression(normalise(inputs, *how)) for how in ((False, False), (True, False), (True, True))
    )
    assert raw.smoothness == pytest.approx(2 * (raw.mean_square + 1), rel=0.25)
    assert raw.smoothness > 2 * centred.smoothness
    assert both.condition < centred.condition / 100 and both.condition < 5
    for shift in (9.0, 11.0):
        assert regression(inputs - shift).mean_square > centred.mean_square


def _quadratic(model: nn.Linear, matrix: Tensor) -> Tensor:
    return 0.5 * (model.weight @ matrix @ model.weight.T).squeeze()


def test_the_bound_holds_and_is_tight_for_a_quadratic() -> None:
    """f = ½ θᵀ A θ: L along the gradient is at most λ, and the bound is met along the top eigenvector."""
    generator = torch.Generator().manual_seed(2)
    half = torch.randn(5, 5, dtype=torch.float64, generator=generator)
    matrix = half @ half.T
    values, vectors = torch.linalg.eigh(matrix)
    for start in (torch.ones(5, dtype=torch.float64), vectors[:, -1]):
        model = nn.Linear(5, 1, bias=False).double()
        model.weight.data = start[None].clone()
        line = along_gradient(model, partial(_quadratic, model, matrix), (0.01, 0.05, 0.3))
        assert line.smoothness <= float(values[-1]) * (1 + 1e-9)
        assert all(
            loss <= bound + 1e-9 * abs(bound) for loss, bound in zip(line.losses, line.bounds, strict=True)
        )
        assert torch.equal(model.weight[0], start)
    assert line.losses == pytest.approx(line.bounds, rel=1e-9)


@pytest.mark.parametrize("place", PLACES)
def test_the_bound_holds_along_the_gradient_of_networks(place: str) -> None:
    for line in train(SMALL, place).lines:
        assert line.losses[-1] <= line.bounds[-1] + 1e-9
        assert line.bounds[0] < line.start


def test_looking_does_not_change_the_training() -> None:
    for place in PLACES:
        looked = train(SMALL, place).losses
        alone = train(replace(SMALL, every=SMALL.steps), place).losses
        assert looked == pytest.approx(alone, rel=1e-9)


def test_networks_share_their_linear_weights() -> None:
    plain, normed = (make_network(SMALL, place) for place in ("none", "before"))
    pairs = zip(
        *([part for part in network if isinstance(part, nn.Linear)] for network in (plain, normed)),
        strict=True,
    )
    assert all(torch.equal(a.weight, b.weight) for a, b in pairs)


def test_normalising_trains_faster_here() -> None:
    """What the experiment shows at its defaults, on fewer steps: no smaller L, but a gradient that leads somewhere."""
    options = Options(steps=40, every=40)
    plain, before = train(options, "none"), train(options, "before")
    assert before.losses[-1] < 0.5 * plain.losses[-1]
    assert before.lines[0].slope > 10 * plain.lines[0].slope
    assert before.lines[0].smoothness > plain.lines[0].smoothness


def test_the_experiment_writes_its_page(tmp_path: Path) -> None:
    given = {"examples": "64", "features": "5", "depth": "3", "width": "8", "steps": "20"}
    report = run_experiment("batchnorm", tmp_path, given)
    assert (tmp_path / "landscape.svg").exists() and len(report.tables) == 2
    with pytest.raises(UserError, match="rate and a reach above 0"):
        run_experiment("batchnorm", tmp_path, {"rate": "0"})
