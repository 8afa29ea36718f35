"""The same trainer on a GPU: fp16 with loss scaling, bf16, and resuming with dropout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hanformer.train.meter import NonFiniteLoss
from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from tests.train.tiny import SameSource, TinyBatch, TinySource, objective, same_weights, tiny_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


def on_gpu(model: nn.Module, batch: TinyBatch) -> Loss:
    loss = objective(model, (batch[0].cuda(), batch[1].cuda()))
    return Loss(loss.total, torch.tensor(float(loss.count), device="cuda"))


@pytest.mark.parametrize("word", ["fp32", "bf16", "fp16"])
def test_learns_in_each_format(word: str) -> None:
    source = SameSource([(torch.arange(11), (torch.arange(11) + 1) % 11)] * 2)
    options = TrainOptions(updates=150, learning_rate=0.05, precision=word, accumulate=2)
    trainer = Trainer(tiny_model().cuda(), on_gpu, source, options)
    assert trainer.fit().last_loss < 0.3
    assert trainer.precision.may_overflow == (word == "fp16")


@pytest.mark.parametrize("word", ["fp32", "fp16"])
@pytest.mark.parametrize("average", ["ema", "last"])
def test_interrupted_and_resumed_is_the_same(tmp_path: Path, word: str, average: str) -> None:
    def trainer(folder: Path | None, updates: int) -> Trainer[TinyBatch]:
        options = TrainOptions(
            updates=updates, schedule="constant", precision=word, average=average, average_every=2
        )
        return Trainer(tiny_model(0, 0.3).cuda(), on_gpu, TinySource(), options, run_folder=folder)

    trainer(tmp_path, 4).fit()
    resumed, reference = trainer(tmp_path, 9), trainer(None, 9)
    resumed.fit(resume=True)
    reference.fit()
    assert same_weights(resumed.model, reference.model)


def test_a_bad_loss_is_found_before_anything_is_saved(tmp_path: Path) -> None:
    calls = 0

    def breaking(model: nn.Module, batch: TinyBatch) -> Loss:
        nonlocal calls
        calls += 1
        loss = on_gpu(model, batch)
        return Loss(loss.total * (float("nan") if calls == 6 else 1.0), loss.count)

    options = TrainOptions(updates=30, checkpoint_every=4, log_every=100, precision="fp32")
    trainer = Trainer(tiny_model().cuda(), breaking, TinySource(), options, run_folder=tmp_path)
    with pytest.raises(NonFiniteLoss, match="update 5 "):
        trainer.fit()
    state = trainer.run.last()
    assert state is not None and state.progress.update == 4
    assert all(weight.isfinite().all() for weight in state.weights.values())
