"""The penalty of small noise: its probes by enumeration, its value in closed form, its company."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train.objective import Loss
from hanformer.train.tricks import SideBySide, noise_penalty, sensitivity, with_unlabelled
from hanformer.train.tricks.divergences import divergence, label_divergence
from hanformer.train.tricks.sensitivity import Probe, direction, label_probe, probe
from tests.harness.tricks import classifier, classify, texts
from tests.train.tricks.linear import hessian, linear, objective


def hessian_of(measure: Callable[[Tensor, Tensor], Tensor], logits: Tensor) -> Tensor:
    """The second derivative of a divergence by the logits that moved, where they have not moved."""
    found = torch.autograd.functional.hessian(lambda moved: measure(logits, moved), logits)
    assert isinstance(found, Tensor)
    return found


def squared(p: Tensor) -> Tensor:
    """E[w wᵀ] over all signs."""
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=len(p))), dtype=p.dtype)
    found = direction(p.expand(len(signs), -1), signs)
    return found.T @ found / len(signs)


def test_directions_of_every_sign_square_to_the_hessian() -> None:
    logits = torch.tensor([0.3, -1.2, 2.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(squared(logits.softmax(-1)), hessian_of(divergence, logits))


@pytest.mark.parametrize(("of", "measure"), [(probe, divergence), (label_probe, label_divergence)])
def test_drawn_directions_square_to_the_hessian(
    of: Probe, measure: Callable[[Tensor, Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.3, -1.2, 2.0, 0.0], dtype=torch.float64)
    drawn = of(logits.expand(200_000, -1))
    torch.testing.assert_close(
        drawn.T @ drawn / len(drawn), hessian_of(measure, logits), rtol=0.03, atol=3e-3
    )


def test_the_penalty_in_closed_form() -> None:
    """strength / 2 times the trace of Wᵀ (diag p − p pᵀ) W, in the mean over many copies of one text."""
    model, copies, strength = linear(), 20_000, 0.3
    ids, labels = torch.tensor([[4]]).expand(copies, 1), torch.zeros(copies, dtype=torch.int64)
    torch.manual_seed(1)
    added = (
        noise_penalty(objective, strength)(model, (ids, labels)).total - objective(model, (ids, labels)).total
    )
    expected = strength / 2 * hessian(model, ids[0]).trace()
    assert float(added.detach()) / copies == pytest.approx(float(expected), rel=0.02)


def test_it_trains_the_weights() -> None:
    """The gradient of the penalty by a weight is that of differences, the signs being the same."""
    model, batch = classifier(), texts()
    penalty = sensitivity(lambda model, batch: classify(model, batch).outputs["logits"], of=fixed)
    weight = model.output.weight
    (found,) = torch.autograd.grad(penalty(model, batch).total, [weight])
    step, values = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            weight[1, 2] += sign * step
        values.append(float(penalty(model, batch).total.detach()))
        with torch.no_grad():
            weight[1, 2] -= sign * step
    assert float(found[1, 2]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def fixed(logits: Tensor) -> Tensor:
    """Directions that do not depend on the logits, so that nothing is held constant."""
    return torch.linspace(-1.0, 1.0, logits.shape[-1], dtype=logits.dtype).expand_as(logits)


def test_one_backward_pass_whatever_the_number_of_classes() -> None:
    model, batch = classifier(), texts()
    calls = 0

    def counted(model: nn.Module, batch: object) -> Loss:
        nonlocal calls
        calls += 1
        return classify(model, batch)  # type: ignore[arg-type]

    noise_penalty(counted, 0.1)(model, batch).total.backward()
    assert calls == 1


def test_scores_that_cannot_be_take_no_part() -> None:
    model, batch = classifier(), texts()

    def logits_of(model: nn.Module, batch: object) -> Tensor:
        logits = classify(model, batch).outputs["logits"]  # type: ignore[arg-type]
        return torch.cat([logits, torch.full_like(logits[:, :1], -torch.inf)], 1)

    for of in (probe, label_probe):
        loss = sensitivity(logits_of, of=of)(model, batch).total
        loss.backward()
        assert loss.isfinite() and model.output.weight.grad is not None
        assert model.output.weight.grad.isfinite().all()


def test_unlabelled_texts_stand_beside() -> None:
    model, labelled, unlabelled = classifier(), texts((5, 2)), texts((3, 3, 4, 1, 2), seed=8)
    penalty = sensitivity(lambda model, batch: classify(model, batch).outputs["logits"])
    torch.manual_seed(1)
    found = with_unlabelled(classify, penalty, 0.5)(model, SideBySide(labelled, unlabelled))
    torch.manual_seed(1)
    alone = penalty(model, unlabelled)
    assert alone.count == 5
    torch.testing.assert_close(found.mean(), classify(model, labelled).mean() + 0.5 * alone.total / 5)


def test_a_loss_without_logits_is_refused() -> None:
    def blind(model: nn.Module, batch: object) -> Loss:
        loss = classify(model, batch)  # type: ignore[arg-type]
        return Loss(loss.total, loss.count)

    with pytest.raises(UserError, match="noise_penalty: expected an objective whose loss has outputs"):
        noise_penalty(blind, 0.1)(classifier(), texts())
