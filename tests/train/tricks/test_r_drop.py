"""R-Drop against its formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.losses.zlpr import zlpr_divergence
from hanformer.train.objective import Loss
from hanformer.train.tricks.divergences import symmetric_divergence, symmetric_label_divergence
from hanformer.train.tricks.r_drop import r_drop
from tests.harness.tricks import classifier, classify, texts


def objective(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Loss:
    logits = model(batch[0])
    loss = cross_entropy(logits, batch[1])
    return Loss(loss.total, loss.count, {"logits": logits})


def material(dropout: float) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(dropout), nn.Linear(6, 5)).double()
    return model, (torch.randn(7, 6, dtype=torch.float64), torch.randint(5, (7,)))


@pytest.mark.parametrize("strength", [0.5, 4.0])
def test_it_is_the_mean_of_two_passes_and_a_quarter_of_the_divergences(strength: float) -> None:
    model, batch = material(0.4)
    torch.manual_seed(1)
    found = r_drop(objective, strength)(model, batch)
    torch.manual_seed(1)
    first, second = objective(model, batch), objective(model, batch)
    p, q = (loss.outputs["logits"].log_softmax(-1) for loss in (first, second))
    both = F.kl_div(p, q, reduction="sum", log_target=True) + F.kl_div(q, p, reduction="sum", log_target=True)
    assert not torch.equal(p, q)
    torch.testing.assert_close(found.total, (first.total + second.total) / 2 + strength * both / 4)
    assert int(found.count) == 7
    parameters = list(model.parameters())
    expected = torch.autograd.grad((first.total + second.total) / 2 + strength * both / 4, parameters)
    for left, right in zip(torch.autograd.grad(found.total, parameters), expected, strict=True):
        torch.testing.assert_close(left, right)


def test_without_dropout_it_is_the_plain_loss() -> None:
    model, batch = material(0.0)
    torch.testing.assert_close(r_drop(objective, 3.0)(model, batch).total, objective(model, batch).total)


def test_strength_zero_is_the_objective_itself() -> None:
    assert r_drop(objective, 0.0) is objective


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0.01, 30.0))
def test_the_divergence_is_symmetric_and_never_negative(seed: int, size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, right = scale * torch.randn(2, 3, size, generator=generator, dtype=torch.float64)
    found = symmetric_divergence(left, right)
    assert found >= 0 and symmetric_divergence(left, left + 2.5) <= 1e-9
    torch.testing.assert_close(found, symmetric_divergence(right, left))


def test_half_precision_is_summed_in_single() -> None:
    found = symmetric_divergence(
        torch.zeros(4, 3, dtype=torch.bfloat16), torch.ones(4, 3, dtype=torch.bfloat16)
    )
    assert found.dtype == torch.float32


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf])
def test_senseless_strengths_are_refused(strength: float) -> None:
    with pytest.raises(UserError, match="r_drop"):
        r_drop(objective, strength)


def test_an_objective_without_logits_is_refused() -> None:
    model, batch = material(0.1)
    with pytest.raises(UserError, match="logits"):
        r_drop(lambda model, batch: Loss(objective(model, batch).total, 7), 1.0)(model, batch)


def test_logits_of_classes_are_rows_too() -> None:
    model, batch = classifier(dropout=0.3), texts()
    torch.manual_seed(1)
    found = r_drop(classify, 2.0)(model, batch)
    torch.manual_seed(1)
    first, second = classify(model, batch), classify(model, batch)
    p, q = (loss.outputs["logits"].softmax(-1) for loss in (first, second))
    both = (p * (p / q).log() + q * (q / p).log()).sum()
    torch.testing.assert_close(found.total, (first.total + second.total) / 2 + 2.0 / 4 * both)


def test_labels_that_do_not_exclude_each_other_have_a_divergence_of_their_own() -> None:
    model, batch = material(0.4)
    torch.manual_seed(1)
    found = r_drop(objective, 4.0, symmetric_label_divergence)(model, batch)
    torch.manual_seed(1)
    first, second = (objective(model, batch) for _ in range(2))
    scores = [loss.outputs["logits"] for loss in (first, second)]
    both = zlpr_divergence(scores[0], scores[1]).sum() + zlpr_divergence(scores[1], scores[0]).sum()
    torch.testing.assert_close(found.total, (first.total + second.total) / 2 + both)
