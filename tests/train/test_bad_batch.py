"""Losses that are no number: the batches are kept, and the update is skipped where that is asked for."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from hanformer.data.sequences import Pair, join_pairs
from hanformer.errors import UserError
from hanformer.train.bad_batch import Moment, save_batches
from hanformer.train.checkpoint import read_tensors
from hanformer.train.groups import Group
from hanformer.train.meter import NonFiniteLoss
from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.progress import LineReporter
from hanformer.train.trainer import MOST_SKIPPED, Trainer
from tests.train.tiny import SameSource, TinyBatch, TinySource, objective, same_weights, tiny_model


def bad_of_size(*sizes: int) -> object:
    """The plain objective, but for batches of these sizes."""

    def chosen(model: nn.Module, batch: TinyBatch) -> Loss:
        loss = objective(model, batch)
        return Loss(loss.total * (float("inf") if len(batch[0]) in sizes else 1.0), loss.count)

    return chosen


def test_the_file_holds_every_field_of_every_batch(tmp_path: Path) -> None:
    batches = [join_pairs([Pair((1, 2), (3,))]), join_pairs([Pair((4,), (5, 6)), Pair((7,), (8,))])]
    path = save_batches(tmp_path, Moment(12, Group(3, 0, 2, batches)))
    assert path.name == "bad_batch_12.safetensors"
    found = read_tensors(path)
    assert torch.equal(found["1.token_ids"], batches[1].token_ids)
    assert torch.equal(found["1.layout.positions"], batches[1].layout.positions)
    assert torch.equal(found["0.labels"], batches[0].labels)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["epoch"] == "3" and json.loads(metadata["values"])["1.layout.lengths.0"] == 2


def test_a_run_stops_and_names_the_file(tmp_path: Path) -> None:
    run = Trainer(
        tiny_model(),
        bad_of_size(7),
        TinySource(),
        TrainOptions(updates=9, accumulate=2, precision="fp32"),
        run_folder=tmp_path,
    )
    with pytest.raises(
        NonFiniteLoss, match=r"update 1 \(epoch 0, batches 2 to 3\).*saved in .*bad_batch_1\.saf"
    ):
        run.fit()
    found = read_tensors(tmp_path / "bad_batch_1.safetensors")
    batches = TinySource().batches(0)
    assert all(torch.equal(found[f"{i}.{part}"], batches[i][part]) for i in (2, 3) for part in (0, 1))


def test_a_skipped_update_is_as_if_its_batch_were_not_there(tmp_path: Path) -> None:
    batches = TinySource((5, 2, 7, 4)).batches(0)
    options = TrainOptions(updates=4, schedule="constant", precision="fp32", bad_loss="skip")
    stream = io.StringIO()
    run = Trainer(
        tiny_model(),
        bad_of_size(7),
        SameSource(batches),
        options,
        run_folder=tmp_path,
        reporter=LineReporter(stream),
    )
    run.fit()
    other = tiny_model()
    rest = SameSource([batches[0], batches[1], batches[3]])
    Trainer(other, objective, rest, TrainOptions(updates=3, schedule="constant", precision="fp32")).fit()
    assert same_weights(run.model, other) and run.progress.update == 4
    assert (
        "update 2 (epoch 0, batches 2 to 2): the loss is not finite; this update is skipped"
        in stream.getvalue()
    )
    assert (tmp_path / "bad_batch_2.safetensors").exists()


def test_skipping_without_end_stops() -> None:
    options = TrainOptions(updates=50, precision="fp32", bad_loss="skip")
    run = Trainer(tiny_model(), bad_of_size(5), TinySource((5,)), options)
    with pytest.raises(NonFiniteLoss, match=f"as in the {MOST_SKIPPED} updates before"):
        run.fit()
    assert run.progress.update == MOST_SKIPPED


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(UserError, match="bad_loss: expected stop or skip, got 'ignore'"):
        TrainOptions(updates=1, bad_loss="ignore")
