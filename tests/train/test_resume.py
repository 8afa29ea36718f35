"""A run killed with SIGKILL and resumed gives the weights of an uninterrupted one, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.train.checkpoint import RunFolder, read_tensors
from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from tests.train.interrupted_run import options, trainer
from tests.train.tiny import TinyBatch, TinySource, objective, same_weights, tiny_model

ROOT = Path(__file__).resolve().parents[2]
# Update 9 of 14 is cut in the middle of its accumulation (in mid-epoch, two updates after a checkpoint); the
# second save is cut between its two renames.
KILLS = {"forward": 15, "rename": 3}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of processes that were killed, all at the same time."""
    folders = {where: tmp_path_factory.mktemp(where) / "run" for where in KILLS}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.interrupted_run", str(folder), where, str(KILLS[where])],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
        )
        for where, folder in folders.items()
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, errors.decode()
    return folders


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that was never interrupted."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole") / "run"
    trainer(folder).fit()
    return folder


@pytest.mark.parametrize("where", sorted(KILLS))
def test_killed_and_resumed_is_the_same_bit_for_bit(killed: dict[str, Path], whole: Path, where: str) -> None:
    folder = killed[where]
    resumed = trainer(folder)
    state = resumed.run.last()
    assert state is not None and 0 < state.progress.update < 14
    torch.manual_seed(123)
    history = resumed.fit(resume=True)
    for name in ("last/model.safetensors", "last/state.safetensors", "best/model.safetensors"):
        expected, found = read_tensors(whole / name), read_tensors(folder / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected), name
    metrics = [record.metrics for record in history.validations]
    state = RunFolder(whole).last()
    assert state is not None
    assert metrics == [row["metrics"] for row in state.values["history"] if "metrics" in row]
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["update"] for line in lines] == [record.update for record in history.records]


def test_dropout_and_averaging_matter_to_that_test(whole: Path) -> None:
    """The run depends on the random state, so equal weights cannot come by chance."""
    other = trainer(None)
    other.options = TrainOptions(**{**vars(options()), "seed": 8})
    other.fit()
    best = read_tensors(whole / "best" / "model.safetensors")
    assert not torch.equal(best["hidden.weight"], other.model.state_dict()["hidden.weight"])
    last = read_tensors(whole / "last" / "model.safetensors")
    assert not torch.equal(best["hidden.weight"], last["hidden.weight"])


@pytest.mark.parametrize("average", ["none", "last"])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_ctrl_c_finishes_the_update_and_can_be_resumed(tmp_path: Path, average: str, number: int) -> None:
    calls = 0

    def interrupting(model: nn.Module, batch: TinyBatch) -> Loss:
        nonlocal calls
        calls += 1
        if calls == number:
            signal.raise_signal(signal.SIGINT)
        return objective(model, batch)

    first = trainer(tmp_path / "a", average)
    first.objective = interrupting
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    assert first.progress.update == (number + 1) // 2
    second, reference = trainer(tmp_path / "a", average), trainer(None, average)
    second.fit(resume=True)
    reference.fit()
    assert same_weights(second.model, reference.model)


def test_second_ctrl_c_acts_at_once_and_handlers_come_back(tmp_path: Path) -> None:
    def impatient(model: nn.Module, batch: TinyBatch) -> Loss:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return objective(model, batch)

    before = signal.getsignal(signal.SIGINT)
    run = trainer(tmp_path)
    run.objective = impatient
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert run.progress.update == 0
    assert signal.getsignal(signal.SIGINT) is before


def test_resuming_a_finished_run_changes_nothing(whole: Path) -> None:
    before = {
        name: read_tensors(whole / name) for name in ("last/model.safetensors", "best/model.safetensors")
    }
    again = trainer(whole)
    history = again.fit(resume=True)
    for name, tensors in before.items():
        found = read_tensors(whole / name)
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert history.records[-1].update == 14
    assert torch.equal(
        again.model.state_dict()["norm.weight"], before["best/model.safetensors"]["norm.weight"]
    )


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path: Path) -> None:
    def run(updates: int) -> Trainer[TinyBatch]:
        chosen = TrainOptions(updates=updates, schedule="constant", accumulate=2)
        return Trainer(tiny_model(0, 0.3), objective, TinySource(), chosen, run_folder=tmp_path)

    run(4).fit()
    longer = run(9)
    longer.fit(resume=True)
    reference = tiny_model(0, 0.3)
    Trainer(
        reference, objective, TinySource(), TrainOptions(updates=9, schedule="constant", accumulate=2)
    ).fit()
    assert same_weights(longer.model, reference)


def test_a_folder_with_a_run_is_not_overwritten_by_accident(whole: Path) -> None:
    with pytest.raises(UserError, match=r"already holds a run \(14 updates\).*resume it"):
        trainer(whole).fit()


def test_resuming_with_other_options_or_data_is_refused(whole: Path) -> None:
    other = TrainOptions(**{**vars(options()), "learning_rate": 0.5, "log_every": 3})
    with pytest.raises(UserError, match=r"other options \(learning_rate 0.01 there, 0.5 now\)"):
        Trainer(tiny_model(), objective, TinySource((5,) * 7), other, run_folder=whole).fit(resume=True)
    with pytest.raises(UserError, match=r"had 7 batches.*gives 3"):
        Trainer(tiny_model(), objective, TinySource((5,) * 3), options(), run_folder=whole).fit(resume=True)
    wide = nn.Linear(3, 3)
    with pytest.raises(UserError, match="another model"):
        Trainer(wide, objective, TinySource((5,) * 7), options(), run_folder=whole).fit(resume=True)
