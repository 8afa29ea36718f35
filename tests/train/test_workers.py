"""Two processes compute what one does: losses, weights, checkpoints, negatives; and say what went wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hanformer.errors import UserError
from hanformer.train.checkpoint import read_tensors
from hanformer.train.gathering import from_others
from hanformer.train.history import HISTORY_FILE, History
from hanformer.train.trainer import Trainer
from hanformer.train.workers import device_of_worker, working_together
from tests.train.worker_runs import WHOLE, plain, pretrained, sequences, similarity

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have made all their runs."""
    folder = tmp_path_factory.mktemp("workers")
    sequences(folder / "other half", updates=4).fit()
    _write_text(folder)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    processes = [_start(folder, rank, port) for rank in range(2)]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors.decode()
    finally:
        for process in processes:
            process.kill()
    return folder


def _write_text(folder: Path) -> None:
    lines = ("".join(chr(0x4E00 + (7 * line + place) % 40) for place in range(12)) for line in range(60))
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")


def _start(folder: Path, rank: int, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    command = [sys.executable, "-m", "tests.train.worker_runs", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


ALONE: dict[str, Callable[[Path], Trainer[Any]]] = {
    "plain": plain,
    "similar": lambda folder: similarity(folder, joined=2),
    "similar, penalised": lambda folder: similarity(folder, joined=2, penalty=0.5),
    "similar, sharded": lambda folder: similarity(folder, joined=2),
    "sharded": sequences,
    "recomputed": sequences,
    "shared": lambda folder: sequences(folder, share_layers=True),
    "other half": sequences,
}


@pytest.mark.parametrize("name", sorted(ALONE))
def test_two_processes_compute_what_one_does(runs: Path, tmp_path: Path, name: str) -> None:
    ALONE[name](tmp_path).fit()
    expected, found = (History.read(folder / HISTORY_FILE) for folder in (tmp_path, runs / name))
    assert len(found.training) >= 6
    for mine, theirs in zip(expected.records, found.records, strict=True):
        assert theirs.update == mine.update
        assert (theirs.loss or 0.0) == pytest.approx(mine.loss or 0.0, rel=1e-5)
        assert (theirs.gradient_norm or 0.0) == pytest.approx(mine.gradient_norm or 0.0, rel=1e-4)
        assert theirs.metrics == pytest.approx(mine.metrics, rel=1e-5)
    for file in ("last/model.safetensors", "last/state.safetensors", "best/model.safetensors"):
        _assert_near(read_tensors(runs / name / file), read_tensors(tmp_path / file))


def _assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    own = {name for name in found if not name.startswith("random.")}
    assert own == {name for name in expected if not name.startswith("random.")}
    for name in own:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_text_is_written_as_tokens_once_and_learned_by_both(runs: Path, tmp_path: Path) -> None:
    _write_text(tmp_path)
    pretrained(tmp_path / "alone", accumulate=2)
    expected, found = (History.read(run / HISTORY_FILE) for run in (tmp_path / "alone", runs / "pretrained"))
    assert [record.loss for record in found.training] == pytest.approx(
        [record.loss for record in expected.training], rel=1e-5
    )
    assert len(found.training) == 4


def test_a_sharded_checkpoint_is_resumed_by_one_process(runs: Path, tmp_path: Path) -> None:
    sequences(runs / "half").fit(resume=True)
    sequences(tmp_path).fit()
    for file in ("last/model.safetensors", "last/state.safetensors", "best/model.safetensors"):
        _assert_near(read_tensors(runs / "half" / file), read_tensors(tmp_path / file))


def test_a_resumed_run_of_two_is_the_same_bit_for_bit(runs: Path) -> None:
    whole, cut = (read_tensors(runs / name / "last/state.safetensors") for name in ("dropped", "cut"))
    assert whole.keys() == cut.keys() and "random.worker1.cpu" in whole
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert not torch.equal(whole["random.worker1.cpu"], whole["random.cpu"])
    weights = [read_tensors(runs / name / "last/model.safetensors") for name in ("dropped", "cut")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_number_of_workers_may_go_on_if_updates_stay_alike(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"accumulate 2 there, 3 now"):
        plain(runs / "plain", accumulate=3).fit(resume=True)
    assert plain(runs / "plain").fit(resume=True).records[-1].update == 8


def test_tokens_of_all_processes_are_counted(runs: Path) -> None:
    """Both see their own batches alone; the speed is of both."""
    found = History.read(runs / "plain" / HISTORY_FILE).training
    assert all(record.tokens_per_second for record in found)


@pytest.mark.parametrize("rank", [0, 1])
def test_tricks_that_need_whole_weights_say_so(runs: Path, rank: int) -> None:
    """torch alone ends in a traceback, or without a word."""
    said = (runs / f"whole {rank}").read_text(encoding="utf-8").splitlines()
    assert len(said) == len(WHOLE) and all("need whole weights" in line for line in said)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_bad_loss_in_one_process_stops_both(runs: Path, rank: int) -> None:
    text = (runs / f"bad {rank}").read_text(encoding="utf-8")
    assert "update 1 (epoch 0, batches 2 to 3): the loss is nan" in text
    saved = read_tensors(runs / "bad" / "bad_batch_1.safetensors")
    assert {"2.0", "2.1", "3.0", "3.1"} == saved.keys() and len(saved["2.0"]) == 7
    assert ("bad_batch_1.safetensors" in text) == (rank == 0)


def test_a_lost_process_is_named_and_the_run_is_whole(runs: Path, tmp_path: Path) -> None:
    text = (runs / "left").read_text(encoding="utf-8")
    assert "worker 0: another worker was lost" in text and "--resume" in text


def test_alone_there_are_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert from_others(torch.ones(2, 3)) is None
    with working_together(torch.device("cpu")) as workers:
        assert workers.size == 1 and workers.leads
    assert device_of_worker(torch.device("cuda")) == torch.device("cuda")


def test_a_launcher_that_speaks_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with (
        pytest.raises(UserError, match="WORLD_SIZE: expected the whole number"),
        working_together(torch.device("cpu")),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with (
        pytest.raises(UserError, match="do not find each other.*torchrun"),
        working_together(torch.device("cpu")),
    ):
        pass
