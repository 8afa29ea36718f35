"""One way to open a checkpoint: every kind of path, what a folder prefers, and what is said where nothing fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hanformer.errors import UserError
from hanformer.weights.source import TensorInfo, open_source, write_bundle, write_safetensors
from hanformer.weights.table import table_bytes
from tests.weights.material import same

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
ONE = {"a": TENSORS["a"]}


def fill(folder: Path) -> None:
    write_safetensors(folder / "x.safetensors", TENSORS)
    write_safetensors(folder / "s.safetensors", TENSORS, shard_bytes=8)
    write_bundle(folder / "model.ckpt", TENSORS, shards=2)
    for name in ("x.bin", "x.pt", "x.pth", "lightning.ckpt", "plain"):
        torch.save(TENSORS, folder / name)
    np.savez(folder / "x.npz", a=TENSORS["a"].numpy())


@pytest.mark.parametrize(
    "name, format",
    [
        ("x.safetensors", "safetensors"),
        ("s.safetensors.index.json", "safetensors"),
        ("model.ckpt", "tensorflow"),
        ("model.ckpt.index", "tensorflow"),
        ("model.ckpt.data-00001-of-00002", "tensorflow"),
        ("x.bin", "torch"),
        ("x.pt", "torch"),
        ("x.pth", "torch"),
        ("lightning.ckpt", "torch"),
        ("plain", "torch"),
        ("x.npz", "npz"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_every_kind_of_path(tmp_path: Path, name: str, format: str, kind: type) -> None:
    fill(tmp_path)
    source = open_source(kind(tmp_path / name))
    assert source.format == format and source.origin.startswith(str(tmp_path))
    assert source.info("a") == TensorInfo("a", (2, 3), torch.float32)
    assert all(same(source.read(key), TENSORS[key]) for key in source.names())


def test_what_a_folder_prefers(tmp_path: Path) -> None:
    """From the last choice to the first: each one that is added wins."""
    (tmp_path / "config.json").write_text("{}")
    np.savez(tmp_path / "golden.npz", a=np.ones(1))
    assert open_source(tmp_path).format == "npz"
    write_bundle(tmp_path / "model.ckpt", ONE)
    assert open_source(tmp_path).format == "tensorflow"
    torch.save(ONE, tmp_path / "pytorch_model.bin")
    assert open_source(tmp_path).format == "torch"
    write_safetensors(tmp_path, TENSORS, shard_bytes=8)
    source = open_source(tmp_path)
    assert source.format == "safetensors" and source.origin.endswith("model.safetensors.index.json")


def test_bundles_of_a_folder(tmp_path: Path) -> None:
    """The file `checkpoint` decides, by the last part of what it names; without it, the only index."""
    for step in (1, 2):
        write_bundle(tmp_path / f"model.ckpt-{step}", {"a": torch.tensor(step)})
    assert open_source(tmp_path).read("a") == 2
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "C:\\\\gone\\\\model.ckpt-1"\n')
    assert open_source(tmp_path).read("a") == 1
    for text in ('model_checkpoint_path: "/gone/model.ckpt-9"\n', "\xff nothing", ""):
        (tmp_path / "checkpoint").write_text(text)
        with pytest.raises(UserError, match="several.*model.ckpt-1.index, model.ckpt-2.index.*name one"):
            open_source(tmp_path)
    (tmp_path / "model.ckpt-2.index").unlink()
    assert open_source(tmp_path).read("a") == 1


@pytest.mark.parametrize("names", [("x.npz", "y.npz"), ("model.safetensors", "model.safetensors.index.json")])
def test_a_folder_that_leaves_a_choice_open(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        UserError, match=f"several checkpoints could be meant .*{names[0]}, {names[1]}.*name one"
    ):
        open_source(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint in it; expected a folder with.* holds no files"):
        open_source(tmp_path)
    for name in ("vocab.txt", "notes.md"):
        (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=r"no checkpoint in it.*holds notes.md, vocab.txt"):
        open_source(tmp_path)
    with pytest.raises(UserError, match=r"missing: no such file, folder or prefix.*holds notes.md"):
        open_source(tmp_path / "missing")
    with pytest.raises(UserError, match="no such file"):
        open_source(tmp_path / "none" / "missing")
    for name in ("tinny", "bert-base-chinese"):
        with pytest.raises(UserError, match=rf"^{name}: .* tiny .* google-bert/bert-base-chinese") as told:
            open_source(name)
        assert len(str(told.value)) < 300
    with pytest.raises(UserError, match=r"vocab\.txt: no checkpoint that can be read"):
        open_source(tmp_path / "vocab.txt")


def test_version_1_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "old.ckpt").write_bytes(table_bytes([(b"", b"\x0a\x00")]))
    with pytest.raises(UserError, match="old.ckpt: this is a TensorFlow checkpoint of version 1"):
        open_source(tmp_path / "old.ckpt")


def test_data_without_an_index(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", ONE)
    (tmp_path / "x.index").unlink()
    for name in ("x", "x.data-00000-of-00001"):
        with pytest.raises(UserError, match=r"x\.index: cannot be read"):
            open_source(tmp_path / name)


def test_checksums_can_be_turned_off(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", ONE)
    data = tmp_path / "x.data-00000-of-00001"
    data.write_bytes(b"\x01" + data.read_bytes()[1:])
    with pytest.raises(UserError, match="CRC-32C differs"):
        open_source(tmp_path / "x").read("a")
    assert open_source(tmp_path / "x", checksums=False).read("a").shape == (2, 3)


def test_real_data(data_folder: Path) -> None:
    folder = data_folder / "checkpoints"
    assert len(open_source(folder / "tf_ckpt_t2t_transformer").names()) == 250
    assert open_source(folder / "stories260K" / "weights_derived.npz").info(
        "tok_embeddings.weight"
    ).shape == (512, 64)
    with pytest.raises(UserError, match="raw export of llama2.c"):
        open_source(folder / "stories260K" / "stories260K.bin")
    with pytest.raises(UserError, match="several checkpoints could be meant"):
        open_source(folder / "tf_index_only")
