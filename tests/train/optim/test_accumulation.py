"""Accumulated micro-batches of unequal length against one large batch, under every kind of rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hanformer.train.objective import Loss
from hanformer.train.optim.base import OptimizerFactory, ParameterGroups
from hanformer.train.optimizer import rule_named
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from tests.train.tiny import SameSource, TinyBatch, TinySource, objective, tiny_model

BATCHES = TinySource().batches(0)
WHOLE = (torch.cat([ids for ids, _ in BATCHES]), torch.cat([targets for _, targets in BATCHES]))


def momentum_descent(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9)


def trained(rule: OptimizerFactory, batches: list[TinyBatch]) -> tuple[nn.Module, list[torch.Tensor]]:
    """The model, and its average, after 50 updates, each of all the batches."""
    model = tiny_model().double()
    options = TrainOptions(
        updates=50, accumulate=len(batches), learning_rate=0.01, clip_norm=0.3, warm_up=5, average="ema"
    )
    trainer = Trainer(model, objective, SameSource(batches), options, optimizer=rule)
    trainer.fit()
    return model, trainer.average.values()


@pytest.mark.parametrize(
    "rule",
    [
        momentum_descent,
        *(rule_named(name) for name in ("adamw", "adaxw", "adafactor", "lamb", "lookahead+adax", "tiger")),
    ],
    ids=["momentum", "adamw", "adaxw", "adafactor", "lamb", "lookahead+adax", "tiger"],
)
def test_fifty_updates_equal_those_of_the_large_batch(rule: OptimizerFactory) -> None:
    model, average = trained(rule, BATCHES)
    peer, peer_average = trained(rule, [WHOLE])
    for ours, theirs in zip(model.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    torch.testing.assert_close(average, peer_average, rtol=0, atol=1e-11)


def test_batch_norm_is_the_known_exception() -> None:
    """It sees the micro-batch: accumulation cannot equal the large batch."""

    def normed(model: nn.Module, batch: TinyBatch) -> Loss:
        logits = F.batch_norm(model(batch[0]), None, None, training=True)
        return Loss(F.cross_entropy(logits, batch[1], reduction="sum"), len(batch[1]))

    found = []
    for batches in (
        [BATCHES[0], BATCHES[2]],
        [tuple(map(torch.cat, zip(BATCHES[0], BATCHES[2], strict=True)))],
    ):
        model = tiny_model().double()
        options = TrainOptions(updates=1, accumulate=len(batches), learning_rate=0.01)
        Trainer(model, normed, SameSource(batches), options).fit()
        found.append(model.hidden.weight.detach())
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "choices",
    [
        {"schedule": "cosine", "warm_up": 7},
        {"schedule": "constant", "clip_norm": None},
        {"schedule": "piecewise", "knots": ((4.0, 1.0), (20.0, 0.2)), "warm_up": 0},
        {"average": "last", "average_every": 3, "average_count": 4},
        {"average": "ema", "average_decay": 0.7, "clip_norm": 0.05},
    ],
    ids=["cosine", "unclipped", "piecewise", "last snapshots", "clipped always"],
)
def test_everything_counts_updates(choices: dict[str, Any]) -> None:
    """Schedules, clipping and averages see the large batch, however many micro-batches it comes in."""
    options = TrainOptions(updates=24, learning_rate=0.02, warm_up=5).__dict__ | choices
    found = []
    for batches in (BATCHES, [WHOLE]):
        model = tiny_model().double()
        trainer = Trainer(
            model, objective, SameSource(batches), TrainOptions(**options | {"accumulate": len(batches)})
        )
        history = trainer.fit()
        found.append((list(model.parameters()), trainer.average.values(), history.training[-1]))
    for ours, theirs in zip(found[0][:2], found[1][:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    assert found[0][2].update == found[1][2].update == 24
    assert found[0][2].learning_rate == found[1][2].learning_rate
    assert found[0][2].gradient_norm == pytest.approx(found[1][2].gradient_norm, rel=1e-9)
