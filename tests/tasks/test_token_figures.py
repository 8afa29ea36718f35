"""Figures of predicted tokens against hand-made logits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from hanformer.tasks.token_figures import likeliest, token_figures
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.objective import Loss


@dataclass
class Labelled:
    logits: Tensor
    labels: Tensor


def objective(model: nn.Module, batch: Labelled) -> Loss:
    loss = cross_entropy(batch.logits, batch.labels)
    return Loss(loss.total, loss.count, {"logits": batch.logits})


def test_likeliest_is_the_place_of_the_greatest_value() -> None:
    torch.manual_seed(0)
    logits = torch.randn(200, 7)
    labels = torch.randint(0, 7, (200,))
    assert torch.equal(likeliest(logits, labels), logits.argmax(-1) == labels)
    assert likeliest(logits, logits.argmax(-1)).all()
    assert likeliest(torch.empty(0, 7), torch.empty(0, dtype=torch.long)).shape == (0,)


def test_not_a_number_is_never_right() -> None:
    logits = torch.tensor([[math.nan, 1.0], [0.0, 1.0]])
    assert likeliest(logits, torch.tensor([1, 1])).tolist() == [False, True]


def test_figures_weigh_tokens_alike_in_batches_of_any_size() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(11, 5), torch.randint(0, 5, (11,))
    parts = [Labelled(logits[:3], labels[:3]), Labelled(logits[3:], labels[3:])]
    figures = token_figures(objective, nn.Linear(1, 1), parts)
    assert figures["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)))
    assert figures["accuracy"] == pytest.approx(float((logits.argmax(-1) == labels).float().mean()))
