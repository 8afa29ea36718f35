"""What ties the tricks together: noise is a penalty, an attack is one to first order, VAT finds an eigenvector.

Source of the analysis: kexue.fm/archives/7234 and 7466.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.adversarial import fgm
from hanformer.train.tricks.divergences import divergence
from hanformer.train.tricks.noise import additive_noise
from hanformer.train.tricks.penalty import gradient_penalty
from hanformer.train.tricks.rows import unchanged
from hanformer.train.tricks.seam import embeddings_changed, gradients_of, look_ups
from hanformer.train.tricks.virtual import instability
from tests.harness.tricks import classifier, classify, texts
from tests.train.tricks.linear import WIDTH, hessian, linear, objective


def by_weights(model: nn.Module, wrapped: Objective[Any], batch: Any) -> Tensor:
    """The gradient of the total by all weights, end to end."""
    found = torch.autograd.grad(
        wrapped(model, batch).total, list(model.parameters()), materialize_grads=True, allow_unused=True
    )
    return torch.cat([gradient.flatten() for gradient in found])


def norm_penalty(objective: Objective[Any], strength: float) -> Objective[Any]:
    """total + strength · Σ ‖g‖ over examples, written down anew; for attention that has a second derivative."""

    def penalised(model: nn.Module, batch: Any) -> Loss:
        loss, found = look_ups(objective, model, batch)
        (gradient,) = gradients_of(loss, found, again=True)
        squares = torch.stack([part.square().sum() for part in gradient.split(list(batch.layout.lengths))])
        return Loss(loss.total + strength * squares.sqrt().sum(), loss.count)

    return penalised


@pytest.mark.parametrize(
    ("attack", "penalty"),
    [
        (lambda o, s: fgm(o, s, direction=unchanged), gradient_penalty),
        (fgm, norm_penalty),
    ],
    ids=["half the squared norm", "the norm"],
)
def test_adversarial_training_is_a_gradient_penalty_to_first_order(
    attack: Callable[..., Any], penalty: Callable[..., Any]
) -> None:
    """By weights, not by values: the perturbation is a constant. Halving the strength must quarter the difference."""
    model, batch = classifier(), texts()
    plain = by_weights(model, classify, batch)
    differences = []
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for strength in (2e-3, 1e-3):
            ours, theirs = (by_weights(model, wrap(classify, strength), batch) for wrap in (attack, penalty))
            assert (theirs - ours).norm() < 0.05 * (theirs - plain).norm()
            differences.append(float((theirs - ours).norm()))
    assert differences[0] / differences[1] == pytest.approx(4.0, rel=0.05)


def test_the_loss_rises_by_strength_times_the_norm() -> None:
    model, batch = classifier(), texts()
    loss, found = look_ups(classify, model, batch)
    norms = found[0].rows.norms(gradients_of(loss, found)[0]).sum()
    errors = [
        float((fgm(classify, s)(model, batch).total - loss.total - s * norms).detach()) for s in (2e-3, 1e-3)
    ]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.05)


def test_noise_on_a_quadratic_loss_is_exactly_a_penalty() -> None:
    """E (f(e + s n) − f(e))² = s² Σ_i ‖∇ f_i‖² for linear f: Monte Carlo over 40,000 copies of one text."""
    model, copies, strength = linear(), 40_000, 0.3
    ids = torch.tensor([[4]]).expand(copies, 1)
    clean = model(ids[:1]).detach()

    def shifted_target(model: nn.Module, batch: Tensor) -> Loss:
        return Loss((model(batch) - clean).square().sum(), len(batch))

    found = additive_noise(shifted_target, strength)(model, ids).mean()
    assert float(found.detach()) == pytest.approx(
        float(strength**2 * model.output.weight.detach().square().sum()), rel=0.02
    )


def test_noise_on_a_divergence_is_the_penalty_of_taylor() -> None:
    """E KL(f(e) ‖ f(e + s n)) ≈ s²/2 Σ_i f_i ‖∇ log f_i‖², which is s²/2 the trace of the Hessian."""
    model, copies, strength = linear(), 40_000, 0.05
    ids = torch.tensor([[4]]).expand(copies, 1)
    clean = model(ids[:1]).detach().expand(copies, -1)

    def shifted_target(model: nn.Module, batch: Tensor) -> Loss:
        return Loss(divergence(clean, model(batch)), len(batch))

    found = additive_noise(shifted_target, strength)(model, ids).mean()
    vector = model.table.weight[4].detach()
    p = model.output(vector).softmax(-1)
    slopes = torch.func.jacrev(lambda e: model.output(e).log_softmax(-1))(vector)
    expected = strength**2 / 2 * (p * slopes.square().sum(1)).sum()
    torch.testing.assert_close(2 / strength**2 * expected, hessian(model, ids[0]).trace())
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=0.03)


def perturbed(model: nn.Module, wrapped: Objective[Any], batch: Any) -> tuple[Tensor, Tensor]:
    """The value of the objective, and what its last pass was given in place of the embedded tokens."""
    seen: list[Tensor] = []

    def watch(embedded: Tensor, rows: object) -> Tensor:
        seen.append(embedded.detach())
        return embedded

    with embeddings_changed(model, watch):
        value = wrapped(model, batch).total
    return value.detach(), seen[-1]


def logits_of(model: nn.Module, batch: Tensor) -> Tensor:
    logits: Tensor = model(batch)
    return logits


@pytest.mark.parametrize("seed", range(3))
def test_power_iteration_finds_the_top_eigenvector(seed: int) -> None:
    model, ids, radius = linear(seed), torch.tensor([[2], [7]]), 1e-3
    penalty = instability(logits_of, radius=radius, finite_step=1e-4, iterations=40)
    value, seen = perturbed(model, penalty, ids)
    shifts = (seen - model.table(ids).detach())[:, 0] / radius
    largest = 0.0
    for shift, text in zip(shifts, ids, strict=True):
        values, vectors = torch.linalg.eigh(hessian(model, text))
        assert abs(float(shift @ vectors[:, -1])) > 0.999
        largest += float(values[-1])
    assert float(value) == pytest.approx(radius**2 / 2 * largest, rel=2e-3)


def test_one_iteration_is_worse_than_many_and_better_than_noise() -> None:
    model, ids = linear(), torch.arange(9)[:, None]
    values = []
    for iterations in (0, 1, 30):
        torch.manual_seed(0)
        penalty = instability(logits_of, radius=0.01, finite_step=1e-3, iterations=iterations)
        values.append(penalty(model, ids).total.item())
    assert values[0] < values[1] < values[2]


def test_the_gradient_penalty_in_closed_form() -> None:
    """‖Wᵀ(p − y)‖² for every occurrence of a token, not for its row of the table."""
    model, strength = linear(), 0.7
    ids, labels = torch.tensor([[3, 3, 5], [1, 2, 3]]), torch.tensor([1, 3])
    found = gradient_penalty(objective, strength)(model, (ids, labels)).total
    p = model(ids).softmax(-1).detach()
    slopes = (p - torch.eye(p.shape[1], dtype=p.dtype)[labels]) @ model.output.weight.detach()
    each = slopes.square().sum(1)
    expected = objective(model, (ids, labels)).total + strength / 2 * (3 * each).sum()
    torch.testing.assert_close(found, expected)
    # Summed by rows of the table first, which bert4keras does not do either, it would be another penalty.
    by_row = torch.zeros(9, WIDTH, dtype=p.dtype).index_add(0, ids.flatten(), slopes.repeat_interleave(3, 0))
    assert not torch.isclose(by_row.square().sum(), (3 * each).sum(), rtol=0.1)


def test_the_double_backward_is_that_of_differences() -> None:
    """Through attention, norms and the pooler, in every kind of weight."""
    model, batch, penalised = classifier(), texts(), gradient_penalty(classify, 0.5)
    found = by_weights(model, penalised, batch)
    weights = list(model.parameters())
    torch.manual_seed(2)
    for _ in range(3):
        directions = [torch.randn_like(weight) for weight in weights]
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                for weight, direction in zip(weights, directions, strict=True):
                    weight.add_(direction, alpha=step)
                values.append(float(penalised(model, batch).total))
                for weight, direction in zip(weights, directions, strict=True):
                    weight.sub_(direction, alpha=step)
        slope = (values[0] - values[1]) / 2e-5
        assert float(found @ torch.cat([d.flatten() for d in directions])) == pytest.approx(slope, rel=1e-5)
