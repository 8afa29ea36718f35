from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.train.checkpoint import (
    Progress,
    RunFolder,
    TrainState,
    load_weights,
    random_state,
    restore_random_state,
    weights_of,
)
from hanformer.train.optimizer import optimizer_state, restore_optimizer
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from tests.train.tiny import TinySource, objective, same_weights, tiny_model


def state(value: float = 1.0) -> TrainState:
    weights = {"w": torch.full((2, 3), value)}
    return TrainState(
        Progress(update=5, best=0.25), weights, {"random.cpu": torch.get_rng_state()}, {"a": [1, None]}
    )


def test_round_trip(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.last() is None and run.best() is None
    saved = state()
    run.save_last(saved)
    found = run.last()
    assert found is not None
    assert found.progress == saved.progress and found.values == saved.values
    assert torch.equal(found.weights["w"], saved.weights["w"])
    assert torch.equal(found.part("random")["cpu"], saved.tensors["random.cpu"])


def test_best_is_accompanied(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, lambda folder: (folder / "config.json").write_text("{}") and None)
    run.save_best({"w": torch.ones(2)}, {"loss": 0.5})
    assert sorted(os.listdir(tmp_path / "best")) == ["config.json", "metrics.json", "model.safetensors"]
    assert json.loads((tmp_path / "best" / "metrics.json").read_text()) == {"loss": 0.5}


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_incomplete_is_a_user_error_in_one_line(tmp_path: Path, name: str, damage: str) -> None:
    run = RunFolder(tmp_path)
    run.save_last(state())
    path = tmp_path / "last" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"incomplete checkpoint .* start in another one") as caught:
        run.last()
    assert "\n" not in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(
    "content", ['{"version": 99}', "[]", '{"version": 1, "progress": {"other": 1}, "values": {}}']
)
def test_other_versions_and_fields_are_refused(tmp_path: Path, content: str) -> None:
    run = RunFolder(tmp_path)
    run.save_last(state())
    (tmp_path / "last" / "state.json").write_text(content)
    with pytest.raises(UserError, match="version 1, got|not those of a run"):
        run.last()


def test_full_disk_while_saving_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    run.save_last(state(1.0))
    write = Path.write_bytes

    def fails_in_the_middle(path: Path, content: bytes) -> int:
        if path.name != "state.safetensors":
            return write(path, content)
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fails_in_the_middle)
    with pytest.raises(UserError, match="disk is full"):
        run.save_last(state(2.0))
    found = run.last()
    assert found is not None and float(found.weights["w"][0, 0]) == 1.0
    assert os.listdir(tmp_path) == ["last"]


def test_a_full_disk_stops_a_run_with_its_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trainer() -> Trainer[object]:
        options = TrainOptions(updates=6, checkpoint_every=2)
        return Trainer(tiny_model(0, 0.2), objective, TinySource(), options, run_folder=tmp_path)  # type: ignore[arg-type,return-value]

    saves, save = 0, RunFolder.save_last

    def failing(self: RunFolder, saved: TrainState) -> None:
        nonlocal saves
        saves += 1
        if saves == 2:
            raise UserError("the disk is full")
        save(self, saved)

    monkeypatch.setattr(RunFolder, "save_last", failing)
    with pytest.raises(UserError, match="disk is full"):
        trainer().fit()
    monkeypatch.undo()
    resumed = trainer()
    resumed.fit(resume=True)
    shutil.rmtree(tmp_path)
    reference = trainer()
    reference.fit()
    assert same_weights(resumed.model, reference.model)


def test_tied_weights_are_saved_once_and_loaded_in_place() -> None:
    model, other = tiny_model(0), tiny_model(1)
    weights = weights_of(model)
    assert "embedding.weight" in weights and "output.weight" not in weights
    table = other.embedding.weight
    load_weights(other, weights, "here")
    assert same_weights(model, other) and other.output.weight is table


def test_buffers_are_weights_too() -> None:
    model, other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    model(torch.randn(5, 2))
    load_weights(other, weights_of(model), "here")
    assert same_weights(model, other) and int(other.num_batches_tracked) == 1


def test_misshapen_weights_are_named() -> None:
    with pytest.raises(UserError, match=r"here: .*\(weight\)"):
        load_weights(nn.Linear(2, 2), {"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "here")


def test_random_state_round_trip() -> None:
    saved = random_state()
    first = torch.rand(3)
    restore_random_state(saved)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize(
    "rule", [torch.optim.AdamW, torch.optim.Adafactor, torch.optim.NAdam, torch.optim.Rprop]
)
def test_any_optimiser_round_trips_through_json(rule: type[torch.optim.Optimizer]) -> None:
    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        objective(model, TinySource().batches(0)[0]).total.backward()
        optimizer.step()

    model, twin = tiny_model(), tiny_model()
    optimizer = rule(model.parameters(), lr=0.01)  # type: ignore[call-arg]
    step(model, optimizer)
    tensors, plain = optimizer_state(optimizer)
    load_weights(twin, weights_of(model), "")
    second = rule(twin.parameters(), lr=0.5)  # type: ignore[call-arg]
    restore_optimizer(second, tensors, json.loads(json.dumps(plain)))
    for _ in range(3):
        step(model, optimizer)
        step(twin, second)
    assert same_weights(model, twin)
