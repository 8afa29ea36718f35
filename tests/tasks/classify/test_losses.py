"""Losses against naive forms; the divergences and mixed losses that tricks are given."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from hanformer.errors import UserError
from hanformer.tasks.classify.losses import (
    LOSSES,
    TAYLOR,
    class_tricks,
    even_sides,
    even_weights,
    softmax_focal,
)
from hanformer.train.losses.normalised import normalised_cross_entropy
from hanformer.train.losses.zlpr import zlpr
from hanformer.train.objective import Loss
from tests.harness.losses import LossCase, check_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 1])
MANY = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1]])


@settings(deadline=None, derandomize=True)
@given(some.lists(some.floats(-30, 30), min_size=2, max_size=6), some.floats(0, 4))
def test_softmax_focal_is_its_formula(scores: list[float], gamma: float) -> None:
    highest = max(scores)
    total = sum(math.exp(score - highest) for score in scores)
    p = math.exp(scores[0] - highest) / total
    rest = sum(math.exp(score - highest) for score in scores[1:]) / total
    found = softmax_focal(torch.tensor([scores], dtype=torch.float64), torch.tensor([0]), gamma)
    assert float(found) == pytest.approx(-(rest**gamma) * math.log(p), rel=1e-9, abs=1e-12)


def test_weights_multiply_each_example_and_its_count() -> None:
    weights = torch.tensor([1.0, 2.0, 4.0])
    each = -LOGITS.log_softmax(-1)[torch.arange(3), LABELS]
    for word, rows in (("cross_entropy", each), ("focal", softmax_focal(LOGITS, LABELS))):
        found = LOSSES[word].make(weights, 0.0)(LOGITS, LABELS)
        assert float(found.total) == pytest.approx(float(rows @ weights[LABELS].double()), rel=1e-6)
        assert float(found.count) == 7.0
        plain = LOSSES[word].make(None, 0.0)(LOGITS, LABELS)
        assert float(plain.total) == pytest.approx(float(rows.sum())) and float(plain.count) == 3.0


def of_taylor(scores: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """The loss of each row, of what a classifier gives."""
    kind = LOSSES["taylor"]
    assert kind.link is not None
    logits, loss_of = kind.link(scores), kind.make(None, smoothing)
    rows = [loss_of(logits[row : row + 1], labels[row : row + 1]).total for row in range(len(labels))]
    return torch.stack(rows) if rows else logits.sum(-1)


def test_the_taylor_loss_in_the_harness() -> None:
    source = torch.Generator().manual_seed(5)
    scores = torch.randn(6, 5, dtype=torch.float64, generator=source)
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    perfect = 1e4 * torch.nn.functional.one_hot(labels, 5).double()
    check_loss(LossCase("taylor", of_taylor, scores, labels, perfect, twice=False))


def test_the_taylor_loss_is_that_of_its_normaliser_and_so_are_its_probabilities() -> None:
    kind = LOSSES["taylor"]
    logits = kind.link(LOGITS)
    expected = normalised_cross_entropy(LOGITS, LABELS, TAYLOR)
    torch.testing.assert_close(of_taylor(LOGITS, LABELS).sum(), expected.total)
    torch.testing.assert_close(kind.probabilities(logits), TAYLOR(LOGITS))
    assert (kind.probabilities(logits) - LOGITS.softmax(-1)).abs().max() > 0.01
    smoothed = 0.8 * expected.total - 0.2 * TAYLOR.log(LOGITS).mean(-1).sum()
    torch.testing.assert_close(of_taylor(LOGITS, LABELS, 0.2).sum(), smoothed)


def test_losses_of_many_labels_are_sums_over_classes() -> None:
    p = torch.sigmoid(LOGITS)
    weights = torch.tensor([1.0, 2.0, 4.0])
    terms = -(weights * MANY * p.log() + (1 - MANY) * (1 - p).log())
    found = LOSSES["sigmoid"].make(weights, 0.0)(LOGITS, MANY.double())
    assert float(found.total) == pytest.approx(float(terms.sum()), rel=1e-6) and found.count == 3
    assert float(LOSSES["zlpr"].make(None, 0.0)(LOGITS, MANY).total) == pytest.approx(
        float(zlpr(LOGITS, MANY).sum())
    )
    focal = -(0.25 * MANY * (1 - p) ** 2 * p.log() + 0.75 * (1 - MANY) * p**2 * (1 - p).log())
    found = LOSSES["sigmoid_focal"].make(None, 0.0)(LOGITS, MANY)
    assert float(found.total) == pytest.approx(float(focal.sum()), rel=1e-6)


def test_balanced_weights_make_classes_weigh_the_same() -> None:
    one = torch.eye(3, dtype=torch.bool)[[0, 0, 0, 1, 1, 2]]
    weights = even_weights(one)
    assert (weights * one.sum(0)).tolist() == pytest.approx([2.0, 2.0, 2.0])
    many = torch.tensor([[1, 1], [1, 0], [1, 0], [0, 0]]).bool()
    assert even_sides(many).tolist() == pytest.approx([1 / 3, 3.0])


def test_tricks_get_the_divergence_and_the_loss_of_the_task() -> None:
    """Two passes that differ, and R-Drop's penalty by hand."""
    passes = iter([LOGITS, -LOGITS])

    def objective(model, batch) -> Loss:
        scores = next(passes)
        return Loss(scores.sum() * 0, 3, {"logits": scores, "labels": MANY})

    kind = LOSSES["zlpr"]
    found = class_tricks(["r_drop:4"], kind, kind.make(None, 0.0))(objective)(torch.nn.Linear(1, 1), None)
    assert float(found.total) == pytest.approx(float(kind.symmetric_divergence(LOGITS, -LOGITS)))
    with pytest.raises(UserError, match="tea_forn"):
        class_tricks(["tea_forn"], kind, kind.make(None, 0.0))
    with pytest.raises(UserError, match="after r_drop"):
        class_tricks(["r_drop:much"], kind, kind.make(None, 0.0))
