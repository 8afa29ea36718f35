"""A model on disk: every broken folder is told in one line, and nothing that was there is lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.checkpoint import CONFIG_FILE
from hanformer.models.saving import WEIGHTS_FILE
from tests.harness import check_save_and_load, random_model, tiny_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny model."""
    save(random_model(tiny_config(), dtype=torch.float32), tmp_path / "run")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    for name, value in changes.items():
        name = name.replace("__", ".")
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value
    save_file(tensors, folder / WEIGHTS_FILE)


def change_config(folder: Path, **changes: object) -> None:
    values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    (folder / CONFIG_FILE).write_text(json.dumps({**values, **changes}), encoding="utf-8")


def test_a_folder_holds_two_files(folder: Path) -> None:
    assert sorted(contents(folder)) == [CONFIG_FILE, WEIGHTS_FILE]


def test_foreign_keys_survive(tmp_path: Path) -> None:
    config = tiny_config(extra={"directionality": "bidi", "说明": "小模型"}, pad_id=None)
    check_save_and_load(config, ("pool",))
    save(random_model(config, ()), tmp_path)
    loaded = load(tmp_path)
    assert (loaded.config, loaded.heads) == (config, ())
    assert "小模型" in (tmp_path / CONFIG_FILE).read_text(encoding="utf-8")


def test_saving_again_gives_the_same_bytes(folder: Path) -> None:
    before = contents(folder)
    save(load(folder), folder)
    assert contents(folder) == before


def test_training_a_loaded_model_never_touches_the_file(folder: Path) -> None:
    before = contents(folder)
    model = load(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert contents(folder) == before
    save(model, folder)
    again = load(folder).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"nothing: no such file, folder or prefix; expected .*model\.safetensors"
    ):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{folder.name}: .*expected .*{name}"):
        load(folder)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file(folder: Path, name: str, share: float) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=name):
        load(folder)


def test_foreign_bytes(folder: Path) -> None:
    (folder / WEIGHTS_FILE).write_bytes(b"\x80\x04this is not a safetensors file" * 50)
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE}: .*damaged or incomplete"):
        load(folder)


def test_folder_in_the_place_of_a_file(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    (folder / WEIGHTS_FILE).mkdir()
    with pytest.raises(UserError, match=WEIGHTS_FILE):
        load(folder)


def test_missing_and_unexpected_tensors(folder: Path) -> None:
    change_tensors(folder, embeddings__norm__bias=None, stranger=torch.zeros(2))
    with pytest.raises(UserError, match=r"missing \(1\): embeddings\.norm\.bias; unexpected \(1\): stranger"):
        load(folder)


def test_wrong_shape(folder: Path) -> None:
    change_tensors(folder, lm_head__bias=torch.zeros(7))
    with pytest.raises(UserError, match=r"wrong shape \(1\): lm_head\.bias \[7\] instead of \[23\]"):
        load(folder)


@pytest.mark.parametrize("changes", [{"layers": 3}, {"vocab_size": 99}, {"norm_place": "pre"}, {"heads": []}])
def test_config_of_another_model(folder: Path, changes: dict[str, object]) -> None:
    change_config(folder, **changes)
    with pytest.raises(UserError, match="weights and config disagree"):
        load(folder)


@pytest.mark.parametrize("heads", [["crf"], "lm", 3, None])
def test_heads_of_another_version(folder: Path, heads: object) -> None:
    change_config(folder, heads=heads)
    with pytest.raises(UserError, match="heads"):
        load(folder)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_keeps_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, other = contents(folder), random_model(tiny_config(layers=1), dtype=torch.float32, seed=9)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(UserError, match="the disk is full"):
            save(other, folder)
    assert contents(folder) == before, "the previous model is whole and no scraps are left"
    load(folder)


@pytest.mark.parametrize("failing", range(4))
def test_a_failure_between_the_files_mixes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Saving renames four times: the old files aside, the new ones into their places."""
    (folder / "notes.txt").write_text("stays", encoding="utf-8")
    before, replace = contents(folder), os.replace
    calls: list[object] = []

    def fail_once(source: object, target: object) -> None:
        calls.append(source)
        if len(calls) == failing + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(UserError, match="could not be written"):
        save(random_model(tiny_config(layers=1), dtype=torch.float32, seed=9), folder)
    assert contents(folder) == before


def test_a_failed_save_beside_a_lone_config_leaves_no_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / WEIGHTS_FILE).unlink()
    before, replace = contents(folder), os.replace

    def fail_for_config(source: Path, target: Path) -> None:
        if source.name.endswith(".new") and target.name == CONFIG_FILE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_config)
    with pytest.raises(UserError, match="could not be written"):
        save(random_model(tiny_config(), dtype=torch.float32), folder)
    assert contents(folder) == before


def test_other_files_of_the_folder_stay(folder: Path) -> None:
    (folder / "best").mkdir()
    (folder / "run.toml").write_text("version = 1", encoding="utf-8")
    save(random_model(tiny_config(layers=1), dtype=torch.float32), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["best", CONFIG_FILE, WEIGHTS_FILE, "run.toml"]
    assert load(folder).config.layers == 1


def test_full_disk_before_the_first_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        save(random_model(tiny_config()), tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder", encoding="utf-8")
    with pytest.raises(UserError, match="run"):
        save(random_model(tiny_config()), tmp_path / "run")
    assert (tmp_path / "run").read_text(encoding="utf-8") == "not a folder"


def test_loading_leaves_the_compiler_alone(folder: Path) -> None:
    program = "import sys, hanformer; hanformer.load(sys.argv[1]); print('torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", program, str(folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


def test_loading_does_not_draw_random_numbers(folder: Path) -> None:
    torch.manual_seed(5)
    load(folder)
    drawn = torch.randn(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.randn(3))
