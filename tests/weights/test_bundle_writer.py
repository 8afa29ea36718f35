"""What is written as a bundle is read again, bit for bit, and the files are those that TensorFlow looks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.weights import bundle_writer
from hanformer.weights.bundle import Bundle
from hanformer.weights.bundle_records import read_entry
from hanformer.weights.bundle_writer import named_checkpoint, write_bundle
from hanformer.weights.table import read_table
from tests.weights.material import GOLDEN, every_dtype, read_all, same

CASES = sorted(path.parent for path in GOLDEN.glob("*/model.ckpt.index"))


@pytest.mark.parametrize("shards", [1, 2, 5, 40])
def test_every_dtype_there_and_back(tmp_path: Path, shards: int) -> None:
    tensors = every_dtype()
    write_bundle(tmp_path / "x.ckpt", tensors, shards=shards)
    source = Bundle(tmp_path / "x.ckpt")
    assert source.names() == tuple(sorted(tensors)) and source.format == "tensorflow"
    assert source.origin == str(tmp_path / "x.ckpt")
    for name, tensor in tensors.items():
        assert same(source.read(name), tensor), name
        assert (source.info(name).shape, source.info(name).dtype) == (tensor.shape, tensor.dtype)
    assert len(list(tmp_path.iterdir())) == shards + 2


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=8)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    shapes=st.dictionaries(NAMES, st.lists(st.integers(0, 3), max_size=3), max_size=12),
    shards=st.integers(1, 4),
)
def test_any_names_and_shapes(
    shapes: dict[str, list[int]], shards: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    prefix = tmp_path_factory.mktemp("bundle") / "x"
    write_bundle(prefix, tensors, shards=shards)
    found = read_all(Bundle(prefix))
    assert found.keys() == tensors.keys()
    assert all(same(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_entries_are_those_of_tensorflow(tmp_path: Path, folder: Path) -> None:
    """Header, dtype, shape, size and checksum of each tensor; only the order of the values may be another."""
    write_bundle(tmp_path / "model.ckpt", read_all(Bundle(folder / "model.ckpt")))
    ours, theirs = (read_table(place / "model.ckpt.index") for place in (tmp_path, folder))
    assert list(ours) == list(theirs) and ours.pop(b"") == theirs.pop(b"")
    for name, message in theirs.items():
        assert replace(read_entry(ours[name]), offset=0) == replace(read_entry(message), offset=0)


def test_another_number_of_shards_leaves_no_rubbish(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", {"a": torch.ones(1)}, shards=3)
    (tmp_path / "y.data-00000-of-00003").write_bytes(b"another one's")
    write_bundle(tmp_path / "x", {"a": torch.zeros(1)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint",
        "x.data-00000-of-00001",
        "x.index",
        "y.data-00000-of-00003",
    ]
    assert Bundle(tmp_path / "x").read("a") == 0


def test_a_failure_leaves_the_previous_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "x", {"a": torch.ones(1)}, shards=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(entries: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle_writer, "table_bytes", full)
    with pytest.raises(UserError, match="disk is full"):
        write_bundle(tmp_path / "x", {"a": torch.zeros(1)})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_bundle_may_be_written_over_the_one_it_is_read_from(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", {"a": torch.arange(1000.0)})
    write_bundle(tmp_path / "x", read_all(Bundle(tmp_path / "x")))
    assert same(Bundle(tmp_path / "x").read("a"), torch.arange(1000.0))


@pytest.mark.parametrize(
    "name, tensor, message",
    [
        ("", torch.ones(1), "at least one letter"),
        ("\0a", torch.ones(1), "at least one letter"),
        ("\ud800", torch.ones(1), "not valid text"),
        ("a", torch.ones(1, device="meta"), "dense tensors with values"),
        ("a", torch.ones(2, 2).to_sparse(), "dense tensors with values"),
        ("a", torch.empty(1, dtype=torch.bits8), "no counterpart of torch.bits8"),
    ],
)
def test_what_a_bundle_cannot_hold(tmp_path: Path, name: str, tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_bundle(tmp_path / "x", {name: tensor})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shards", [0, -1, 100_000])
def test_shards_out_of_range(tmp_path: Path, shards: int) -> None:
    with pytest.raises(UserError, match="1 to 99999 shards"):
        write_bundle(tmp_path / "x", {}, shards=shards)


@pytest.mark.parametrize("name", ["model.ckpt-1", "模型.ckpt", 'a "b" \\c', "7\\1"])
def test_the_file_that_names_the_checkpoint(name: str) -> None:
    text = bundle_writer._checkpoint_text(name)
    assert text.isascii() and text.startswith("model_checkpoint_path: ") and named_checkpoint(text) == name
    assert named_checkpoint("all_model_checkpoint_paths: 'x'") is None
