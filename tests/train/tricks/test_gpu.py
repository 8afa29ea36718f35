"""The tricks on a GPU: nothing stays behind on the host, in every number format."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.theseus import begin_theseus
from hanformer.train.trainer import Trainer
from hanformer.train.tricks import TRICKS
from hanformer.train.tricks.crossing import cross_pairs, predict_decoded
from hanformer.train.tricks.tea_forn import tea_forn
from tests.harness.tricks import ON_PAIRS, PAIRS, Texts, classifier, classify, texts, writer
from tests.train.tiny import SameSource
from tests.train.tricks.test_tea_forn import two_stacks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


def on_gpu(model: nn.Module, batch: Texts) -> Loss:
    return classify(
        model,
        replace(batch, ids=batch.ids.cuda(), layout=batch.layout.to("cuda"), labels=batch.labels.cuda()),
    )


def last_loss(model: nn.Module, objective: Any, batch: Any, word: str) -> float:
    options = TrainOptions(updates=30, learning_rate=0.01, precision=word)
    return Trainer(model.float().cuda(), objective, SameSource([batch]), options).fit().last_loss


@pytest.mark.parametrize("word", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", TRICKS)
def test_learns_with_every_trick(name: str, word: str) -> None:
    trick, of_pairs = TRICKS[name], name == "tea_forn"
    objective = ON_PAIRS.objective if of_pairs else on_gpu
    model, batch = (writer(), ON_PAIRS.batch) if of_pairs else (classifier(), texts())
    start = last_loss(model, objective, batch, word)
    assert last_loss(model, trick.make(objective, trick.strength), batch, word) < max(1.5, start)


def test_two_stacks_and_theseus() -> None:
    objective = tea_forn(predict_decoded(), 2)
    assert last_loss(two_stacks(), objective, cross_pairs(PAIRS), "bf16") < 4
    assert last_loss(begin_theseus(classifier(), 1), on_gpu, texts(), "bf16") < 4
