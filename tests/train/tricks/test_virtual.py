"""Virtual adversarial training, with and without labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from hanformer.train.tricks.divergences import divergence, label_divergence, symmetric_label_divergence
from hanformer.train.tricks.r_drop import agreement
from hanformer.train.tricks.rows import Rows
from hanformer.train.tricks.seam import embeddings_changed
from hanformer.train.tricks.unlabelled import SideBySide, SideBySideSource, with_unlabelled
from hanformer.train.tricks.virtual import instability, vat
from tests.harness.tricks import Texts, classifier, classify, gradients, texts
from tests.train.tiny import SameSource, same_weights


def logits_of(model: nn.Module, batch: Texts) -> Tensor:
    logits: Tensor = model(batch.ids, batch.layout)
    return logits


def test_the_definition_step_by_step() -> None:
    """The random start is read off; one turn and the last pass are computed by hand."""
    model, batch, seen = classifier(), texts(), []
    clean = logits_of(model, batch).detach()

    def watch(embedded: Tensor, rows: Rows) -> Tensor:
        seen.append((embedded.detach(), rows))
        return embedded

    torch.manual_seed(6)
    with embeddings_changed(model, watch):
        found = instability(logits_of, radius=0.4, finite_step=0.01)(model, batch)
    (vectors, rows), (searched, _), (last, _) = seen
    start = ((searched - vectors) / 0.01).requires_grad_()
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(rows.norms(start.detach()), ones)
    with embeddings_changed(model, lambda embedded, rows: embedded.detach() + 0.01 * start):
        (slope,) = torch.autograd.grad(divergence(clean, logits_of(model, batch)), start)
    units = torch.cat([part / part.norm() for part in slope.split(list(batch.layout.lengths))])
    torch.testing.assert_close((last - vectors) / 0.4, units)
    with embeddings_changed(model, lambda embedded, rows: embedded + 0.4 * units):
        expected = divergence(clean, logits_of(model, batch))
    torch.testing.assert_close(found.total, expected)
    assert found.count == 4
    wanted = torch.autograd.grad(expected / 4, list(model.parameters()))
    torch.manual_seed(6)
    ours = gradients(model, instability(logits_of, radius=0.4, finite_step=0.01), [batch])
    for (name, _), value in zip(model.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(ours[name], value)


def test_it_is_added_to_the_labelled_loss() -> None:
    model, batch = classifier(), texts()
    torch.manual_seed(3)
    found = vat(classify, 2.0, radius=0.3)(model, batch)
    torch.manual_seed(3)
    penalty = instability(logits_of, radius=0.3)(model, batch).total
    torch.testing.assert_close(found.total, classify(model, batch).total + 2.0 * penalty)


def test_the_target_is_without_dropout_and_constant() -> None:
    model, batch = classifier(dropout=0.5), texts()
    kept: list[tuple[Tensor, Tensor]] = []

    def watch(given: Tensor, logits: Tensor) -> Tensor:
        kept.append((given, logits))
        return divergence(given, logits)

    instability(logits_of, differing=watch)(model, batch)
    expected = logits_of(model.eval(), batch)
    assert all(torch.equal(given, expected) and not given.requires_grad for given, _ in kept)
    assert model.training is False and len(kept) == 2


def test_labels_that_do_not_exclude_each_other() -> None:
    model, batch = classifier(), texts()
    found = instability(logits_of, differing=label_divergence)(model, batch)
    assert 0 < found.total.item() != instability(logits_of)(model, batch).total.item()
    left, right = torch.randn(2, 5, 3, dtype=torch.float64)
    assert symmetric_label_divergence(left, right) == symmetric_label_divergence(right, left) > 0


@pytest.mark.parametrize("number", [{"radius": 0.0}, {"finite_step": -1.0}, {"iterations": -1}])
def test_senseless_numbers(number: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="vat: "):
        vat(classify, 1.0, **number)


def test_unlabelled_batches_stand_beside() -> None:
    model = classifier()
    labelled, unlabelled = texts((5, 2)), texts((3, 3, 4, 1, 2), seed=8)
    both = with_unlabelled(classify, instability(logits_of), 0.5)
    torch.manual_seed(1)
    found = both(model, SideBySide(labelled, unlabelled))
    torch.manual_seed(1)
    penalty = instability(logits_of)(model, unlabelled)
    torch.testing.assert_close(found.mean(), classify(model, labelled).mean() + 0.5 * penalty.total / 5)
    plain = with_unlabelled(classify, instability(logits_of), 0.0)(model, SideBySide(labelled, None))
    assert plain.total == classify(model, labelled).total


def test_r_drop_without_labels() -> None:
    model, batch = classifier(dropout=0.3), texts()
    found = agreement(logits_of)(model, batch)
    assert found.total.item() > 0 and found.count == 4
    assert agreement(logits_of)(model.eval(), batch).total.abs().item() < 1e-12


class Counting:
    """Batches that say where they come from."""

    def __init__(self, count: int) -> None:
        self.count = count

    def batches(self, epoch: int) -> list[tuple[int, int]]:
        return [(epoch, place) for place in range(self.count)]


@pytest.mark.parametrize(("labelled", "unlabelled"), [(5, 2), (2, 5), (3, 3)])
def test_the_source_of_pairs(labelled: int, unlabelled: int) -> None:
    batches = SideBySideSource(Counting(labelled), Counting(unlabelled)).batches(4)
    assert len(batches) == labelled
    found = [(pair.labelled, pair.unlabelled) for pair in batches]
    assert found == [((4, place), (4, place % unlabelled)) for place in range(labelled)]
    assert batches[-1].labelled == (4, labelled - 1)
    with pytest.raises(IndexError):
        batches[labelled]


def test_unlabelled_data_must_be_there() -> None:
    with pytest.raises(UserError, match="no unlabelled batches"):
        SideBySideSource(Counting(3), Counting(0)).batches(0)


def test_a_trainer_takes_pairs() -> None:
    models = [classifier(dropout=0.1, dtype=torch.float32) for _ in range(2)]
    for model in models:
        source = SideBySideSource(SameSource([texts()]), SameSource([texts((4, 4), seed=7)]))  # type: ignore[list-item]
        objective = with_unlabelled(classify, instability(logits_of))
        history = Trainer(model, objective, source, TrainOptions(updates=6, learning_rate=1e-2)).fit()
        assert history.training[-1].loss < 10
    assert same_weights(*models)


def test_a_loss_without_logits_is_refused() -> None:
    with pytest.raises(UserError, match='vat: .*outputs."logits"'):
        vat(lambda model, batch: Loss(classify(model, batch).total, 4), 1.0)(classifier(), texts())
