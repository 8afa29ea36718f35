"""Mixup against loops over tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.models import EncoderDecoder
from hanformer.train.losses.zlpr import zlpr
from hanformer.train.objective import Loss
from hanformer.train.sequence import predict_targets
from hanformer.train.tricks.crossing import cross_pairs, predict_decoded
from hanformer.train.tricks.mixup import mixup, mixup_at
from hanformer.train.tricks.rows import Rows
from hanformer.train.tricks.seam import embeddings_changed
from tests.harness.material import tiny_config
from tests.harness.tricks import PAIRS, Classifier, classifier, classify, sequences, texts, writer
from tests.train.tricks.linear import linear, objective


def draws(strength: float, count: int) -> tuple[float, Tensor]:
    """What mixup draws after the same seed."""
    torch.manual_seed(4)
    share = float(torch.distributions.Beta(strength, strength).sample())
    order = torch.randperm(count)
    torch.manual_seed(4)
    return share, order


def test_tokens_meet_tokens_of_the_same_place() -> None:
    model, batch = classifier(), texts((5, 2, 7, 1))
    share, order = draws(0.8, 4)
    assert order.tolist() != [0, 1, 2, 3]

    def naive(embedded: Tensor, rows: Rows) -> Tensor:
        parts = embedded.split([5, 2, 7, 1])
        mixed = []
        for own, partner in zip(parts, order.tolist(), strict=True):
            for place, vector in enumerate(own):
                other = parts[partner]
                meets = other[place] if place < len(other) else torch.zeros_like(vector)
                mixed.append(share * vector + (1 - share) * meets)
        return torch.stack(mixed)

    found = mixup(classify, 0.8)(model, batch)
    with embeddings_changed(model, naive):
        logits = classify(model, batch).outputs["logits"]
    both = [
        F.cross_entropy(logits, labels, reduction="sum") for labels in (batch.labels, batch.labels[order])
    ]
    torch.testing.assert_close(found.total, share * both[0] + (1 - share) * both[1])
    assert int(found.count) == 4


def test_padded_ids_are_mixed_along_the_first_axis() -> None:
    model = linear()
    ids, labels = torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([0, 1, 2])
    share, order = draws(0.5, 3)
    vectors = model.table(ids)
    logits = model.output((share * vectors + (1 - share) * vectors[order]).sum(1))
    found = mixup(objective, 0.5)(model, (ids, labels))
    torch.testing.assert_close(found.outputs["logits"], logits)


def test_vectors_before_the_classifier() -> None:
    model, batch = classifier(), texts()
    share, order = draws(0.6, 4)

    def layer_of(model: nn.Module) -> nn.Module:
        assert isinstance(model, Classifier) and model.transformer.pooler is not None
        return model.transformer.pooler

    found = mixup_at(classify, 0.6, layer_of)(model, batch)
    hidden = model.transformer.body(model.transformer.embed(batch.ids, batch.layout), batch.layout)
    pooled = layer_of(model)(hidden[torch.tensor(batch.layout.offsets[:-1])])
    logits = model.output(share * pooled + (1 - share) * pooled[order])
    both = [
        F.cross_entropy(logits, labels, reduction="sum") for labels in (batch.labels, batch.labels[order])
    ]
    torch.testing.assert_close(found.total, share * both[0] + (1 - share) * both[1])
    assert not any(part._forward_hooks for part in model.modules())


def test_another_loss() -> None:
    model, batch = linear(), (torch.tensor([[1, 2], [3, 4]]), torch.eye(4)[:2].double())

    def several(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Loss:
        logits = model(batch[0])
        return Loss(zlpr(logits, batch[1]).sum(), 2, {"logits": logits, "labels": batch[1]})

    def loss_of(logits: Tensor, labels: Tensor) -> Loss:
        return Loss(zlpr(logits, labels).sum(), len(logits))

    share, order = draws(0.5, 2)
    found = mixup(several, 0.5, loss_of)(model, batch)
    logits = found.outputs["logits"]
    expected = share * zlpr(logits, batch[1]).sum() + (1 - share) * zlpr(logits, batch[1][order]).sum()
    torch.testing.assert_close(found.total, expected)


def test_in_eval_mode_nothing_is_mixed() -> None:
    model, batch = classifier().eval(), texts()
    assert mixup(classify, 0.5)(model, batch).total == classify(model, batch).total


def test_what_has_no_one_answer_an_example_is_refused() -> None:
    with pytest.raises(UserError, match='mixup: .*outputs."labels"'):
        mixup(predict_targets(), 0.5)(writer(), sequences())

    def by_token(model: nn.Module, batch: object) -> Loss:
        loss = predict_targets()(model, sequences())
        return Loss(loss.total, loss.count, {**loss.outputs, "labels": sequences().labels})

    with pytest.raises(UserError, match="one answer an example"):
        mixup(by_token, 0.5)(writer(), None)
    model = EncoderDecoder(tiny_config(application="lm")).initialise()
    with pytest.raises(UserError, match="through the model once"):
        mixup(predict_decoded(), 0.5)(model, cross_pairs(PAIRS))
