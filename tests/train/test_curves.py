"""TensorBoard holds the records of a run."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.train.curves import TensorBoardReporter
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from tests.train.interrupted_run import validate
from tests.train.tiny import TinySource, objective, tiny_model


def test_scalars_are_those_of_the_history(tmp_path: Path) -> None:
    reading = import_module("tensorboard.backend.event_processing.event_accumulator")
    options = TrainOptions(updates=6, log_every=2, validate_every=3, tensorboard=str(tmp_path))
    history = Trainer(tiny_model(), objective, TinySource(), options, validate=validate).fit()
    events = reading.EventAccumulator(str(tmp_path))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(record.update, pytest.approx(record.loss)) for record in history.training]
    found = [(event.step, event.value) for event in events.Scalars("validation/loss")]
    assert found == [(record.update, pytest.approx(record.metrics["loss"])) for record in history.validations]


def test_without_tensorboard_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'hanformer\[train\]'"):
        TensorBoardReporter(tmp_path)
