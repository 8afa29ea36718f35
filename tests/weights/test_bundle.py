"""TensorFlow bundles: real ones, partitioned variables, packed indexes, and what is refused and how."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hanformer.errors import UserError
from hanformer.weights.bundle import VERSION_1, Bundle, data_path
from hanformer.weights.bundle_records import NUMBERS, WHOLE, Entry, part_key, read_entry
from hanformer.weights.bundle_writer import write_bundle
from hanformer.weights.protobuf import bytes_field, number_field
from hanformer.weights.table import read_table, table_bytes
from tests.weights.material import GOLDEN, make_bundle, read_all, same

CASES = sorted(path.parent for path in GOLDEN.glob("*/model.ckpt.index"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_golden_bundles(folder: Path) -> None:
    """Written by TensorFlow: every checksum agrees, names are those of the case, entries come out byte for byte."""
    source = Bundle(folder / "model.ckpt")
    assert set(source.names()) == set(json.loads((folder / "case.json").read_text())["variables"])
    assert not source.unreadable
    for tensor in read_all(source).values():
        assert tensor.dtype == torch.float32 and tensor.isfinite().all()
    entries = read_table(folder / "model.ckpt.index")
    assert all(read_entry(message).encoded() == message for key, message in entries.items() if key)


def test_real_bundle_of_two_files(data_folder: Path) -> None:
    source = Bundle(data_folder / "checkpoints" / "tf_ckpt_t2t_transformer" / "model.ckpt-1")
    tensors = read_all(source)
    assert len(tensors) == 250 and source.info("global_step").dtype == torch.int64
    assert tensors["global_step"] == 1 and all(tensor.isfinite().all() for tensor in tensors.values())


def test_real_indexes_over_made_up_values(data_folder: Path, tmp_path: Path) -> None:
    """Names, shapes and places of published Chinese checkpoints; the data file is as long as they ask for."""
    sizes = {
        "albert_small": 57_764_480,
        "albert_tiny": 49_711_136,
        "bert_wwm": 411_529_776,
        "google": 411_529_768,
    }
    for index in sorted((data_folder / "checkpoints" / "tf_index_only").glob("*.index")):
        prefix = tmp_path / index.stem
        (tmp_path / index.name).write_bytes(index.read_bytes())
        size = next(size for name, size in sizes.items() if index.name.startswith(name))
        with open(data_path(prefix, 0, 1), "wb") as file:
            file.truncate(size)  # a hole: reads as zeros, takes no room
        source = Bundle(prefix, checksums=False)
        assert sum(source.read(name).nbytes for name in source.names()) == size
        table = source.info("bert/embeddings/word_embeddings").shape
        assert table[0] == 21128
        with pytest.raises(UserError, match="CRC-32C differs"):
            Bundle(prefix).read("bert/embeddings/word_embeddings")


ROWS = torch.arange(35.0).reshape(7, 5)
IN_ROWS = {((0, 3), (0, 5)): ROWS[:3], ((3, 2), (0, 5)): ROWS[3:5], ((5, 2), (0, 5)): ROWS[5:]}
WIDE = torch.arange(800).reshape(4, 200)
IN_COLUMNS = {((0, WHOLE), (0, 67)): WIDE[:, :67], ((0, WHOLE), (67, 133)): WIDE[:, 67:]}


def test_partitioned_variables(tmp_path: Path) -> None:
    parts = {
        "rows": ((7, 5), IN_ROWS),
        "columns": ((4, 200), IN_COLUMNS),
        "one": ((7, 5), {((0, WHOLE), (0, WHOLE)): ROWS}),
        "flags": ((2,), {((0, 1),): torch.tensor([True]), ((1, 1),): torch.tensor([False])}),
    }
    source = Bundle(make_bundle(tmp_path / "x", {"plain": torch.ones(3, dtype=torch.int8)}, parts))
    assert set(source.names()) == {"plain", *parts}
    assert source.info("rows").shape == (7, 5)
    assert same(source.read("rows"), ROWS) and same(source.read("one"), ROWS)
    assert same(source.read("columns"), WIDE)
    assert source.read("flags").tolist() == [True, False]


def test_keys_of_parts_are_those_that_tensorflow_writes() -> None:
    """From a checkpoint of TensorFlow 2.21 with fixed_size_partitioner(3) along either dimension."""
    assert part_key(b"part", ((5, 2), (0, 5))) == b"\0part\0\1\1\2\x85\x82\x80\x85"
    assert part_key(b"cols", ((0, 4), (67, 67))) == b"\0cols\0\1\1\2\x80\x84\xc0C\xc0C"
    assert part_key(b"cols", ((0, 4), (134, 66))) == b"\0cols\0\1\1\2\x80\x84\xc0\x86\xc0B"
    assert part_key(b"a\0\xff", ((0, WHOLE),)) == b"\0a\0\xff\xff\0\0\1\1\1\x80\x7f"


def test_keys_of_parts_sort_as_their_numbers_do() -> None:
    numbers = [-(1 << 63), -8193, -8192, -65, -64, -1, 0, 63, 64, 8191, 8192, 1 << 40, (1 << 63) - 1]
    keys = [part_key(b"x", ((number, 1),)) for number in numbers]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "shape, parts, message",
    [
        ((7, 5), {((0, 3), (0, 5)): ROWS[:3], ((3, 2), (0, 5)): ROWS[3:5]}, "do not fill"),
        ((5, 5), {((0, 3), (0, 5)): ROWS[:3], ((1, 2), (0, 5)): ROWS[3:5]}, "overlaps another"),
        ((2, 5), {((0, 3), (0, 5)): ROWS[:3]}, "reaches out"),
        ((7, 5), {((-1, 3), (0, 5)): ROWS[:3]}, "reaches out"),
        ((7, 5), {((0, 3),): ROWS[:3]}, "1 dimensions"),
        ((7, 5), {((0, 3), (0, 5)): ROWS[:2]}, "another shape"),
        ((1 << 40, 1 << 40), {((0, 3), (0, 5)): ROWS[:3]}, "larger than any memory"),
        ((-7, 5), {((0, 3), (0, 5)): ROWS[:3]}, "negative"),
        ((1 << 50, 5), {((0, 1 << 50), (0, 5)): ROWS[:3]}, "another shape"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, shape: tuple[int, ...], parts: dict, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.index: tensor 'v'.*{message}"):
        Bundle(make_bundle(tmp_path / "x", {}, {"v": (shape, parts)}))


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    entry = Entry(1, (7, 5), 0, 0, 0, 0, (((0, WHOLE), (0, WHOLE)),)).encoded()
    with pytest.raises(UserError, match="tensor 'v'.*is not there"):
        Bundle(make_bundle(tmp_path / "x", {}, extra={b"v": entry}))


def test_a_thousand_parts_are_too_many(tmp_path: Path) -> None:
    entry = Entry(1, (9,), 0, 0, 0, 0, (((0, WHOLE),),) * 5000).encoded()
    with pytest.raises(UserError, match="at most 4096 parts, got 5000"):
        Bundle(make_bundle(tmp_path / "x", {}, extra={b"v": entry}))


def test_strings_are_left_out_quietly(tmp_path: Path) -> None:
    changes = {"graph": {"kind": 7, "shape": ()}, "odd": {"kind": 99}}
    tensors = {"a": torch.ones(2), "graph": torch.zeros(9, dtype=torch.uint8), "odd": torch.ones(1)}
    source = Bundle(make_bundle(tmp_path / "x", tensors, changes=changes))
    assert source.names() == ("a",)
    assert source.unreadable == {"graph": "string", "odd": "type 99 of types.proto"}
    with pytest.raises(UserError, match="'graph' is a string, not a tensor"):
        source.read("graph")
    with pytest.raises(UserError, match="no tensor named 'b'; it holds a"):
        source.info("b")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"offset": 1 << 62}, f"tensor 'a' at byte {1 << 62}.*the file has 16"),
        ({"offset": -4}, "tensor 'a' at byte -4"),
        ({"size": 12}, r"tensor 'a' at byte 0: shape \[2\].*takes 8 bytes, but 12"),
        ({"size": -8}, "takes 8 bytes, but -8"),
        ({"shape": (-2,)}, "negative dimension"),
        ({"shape": (1 << 50,)}, f"takes {1 << 52} bytes, but 8 are stored"),
        ({"shape": (1 << 62, 1 << 62)}, "larger than any memory"),
        ({"shape": (0, 1 << 62, 1 << 62)}, "larger than any memory"),
        ({"shape": (1,) * 65}, "at most 64 dimensions"),
        ({"shard": 3}, r"data file 3, but there are 1"),
        ({"shard": -1}, r"data file -1"),
        ({"offset": 6}, "begins before byte|within another tensor"),
    ],
)
def test_entries_that_lie(tmp_path: Path, change: dict, message: str) -> None:
    tensors = {"a": torch.ones(2), "b": torch.ones(2)}
    prefix = make_bundle(tmp_path / "x", tensors, changes={"a": change})
    with pytest.raises(UserError, match=rf"{tmp_path.name}/x\..*({message}).*get it again"):
        Bundle(prefix, checksums=False)


def test_a_flipped_bit_of_the_data(tmp_path: Path) -> None:
    prefix = make_bundle(tmp_path / "x", {"a": torch.ones(2), "b": torch.ones(2)})
    content = bytearray(data_path(prefix, 0, 1).read_bytes())
    content[9] ^= 4
    data_path(prefix, 0, 1).write_bytes(content)
    source = Bundle(prefix)
    assert same(source.read("a"), torch.ones(2))
    with pytest.raises(UserError, match=r"x\.data-00000-of-00001: tensor 'b' at byte 8: .*CRC-32C differs"):
        source.read("b")
    assert Bundle(prefix, checksums=False).read("b").shape == (2,)


def test_missing_and_short_data_files(tmp_path: Path) -> None:
    write_bundle(tmp_path / "x", {"a": torch.ones(9), "b": torch.ones(9)}, shards=2)
    second = tmp_path / "x.data-00001-of-00002"
    content = second.read_bytes()
    second.write_bytes(content[:-1])
    with pytest.raises(UserError, match="x.data-00001-of-00002: tensor 'b' at byte 0.*the file has 35"):
        Bundle(tmp_path / "x")
    second.unlink()
    with pytest.raises(
        UserError, match="x.data-00001-of-00002: cannot be read .*all files of the checkpoint"
    ):
        Bundle(tmp_path / "x")
    (tmp_path / "x.index").unlink()
    with pytest.raises(UserError, match=r"x\.index: cannot be read"):
        Bundle(tmp_path / "x")


@pytest.mark.parametrize(
    "header, message",
    [
        (number_field(1, 1) + number_field(2, 1), "big-endian"),
        (number_field(1, 1) + bytes_field(3, number_field(2, 9)), "reader of version 9"),
        (b"", "1 to 99999 data files, got 0"),
        (number_field(1, 1 << 40), "1 to 99999"),
        (bytes_field(1, b"tensors"), "version 1, which is not read; load it in TensorFlow"),
        (b"\x08", "end within"),
    ],
)
def test_headers(tmp_path: Path, header: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.index: .*{message}"):
        Bundle(make_bundle(tmp_path / "x", {"a": torch.ones(1)}, extra={b"": header}))
    assert "write_version=2" in VERSION_1


def test_a_table_without_header_and_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.index").write_bytes(table_bytes([(b"a", b"")]))
    with pytest.raises(UserError, match="expected the header of a TensorFlow bundle"):
        Bundle(tmp_path / "x")
    with pytest.raises(UserError, match="is not UTF-8"):
        Bundle(make_bundle(tmp_path / "y", {}, extra={b"\xff": Entry(1, (0,), 0, 0, 0, 0).encoded()}))


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    """Also at odd places: after 3 bytes no float is aligned."""
    tensors = {"a": torch.zeros(3, dtype=torch.uint8), "b": torch.ones(5), "c": torch.tensor([True, False])}
    prefix = make_bundle(tmp_path / "x", tensors)
    before = data_path(prefix, 0, 1).read_bytes()
    source = Bundle(prefix)
    for tensor in read_all(source).values():
        tensor.fill_(1)
    weights = torch.nn.Parameter(source.read("b"))
    (weights**2).sum().backward()
    with torch.no_grad():
        weights -= 0.1 * weights.grad
    assert same(weights.detach(), torch.full((5,), 0.8))
    assert data_path(prefix, 0, 1).read_bytes() == before


def test_reading_is_lazy_and_without_copies(tmp_path: Path) -> None:
    """A tensor of 1 GiB over a hole of the file: opened, looked at and touched at one place."""
    size = 1 << 30
    with open(tmp_path / "x.data-00000-of-00001", "wb") as file:
        file.truncate(size)
    entry = Entry(NUMBERS[torch.float32], (size // 4,), 0, 0, size, 0).encoded()
    entries = read_table(make_bundle(tmp_path / "y", {}).with_suffix(".index")) | {b"a": entry}
    (tmp_path / "x.index").write_bytes(table_bytes(sorted(entries.items())))
    source = Bundle(tmp_path / "x", checksums=False)
    tensor = source.read("a")
    assert tensor[size // 8] == 0 and tensor.shape == (size // 4,)
    assert tensor.data_ptr() == source.read("a").data_ptr()


def test_truth_values_are_made_true(tmp_path: Path) -> None:
    changes = {"a": {"kind": NUMBERS[torch.bool]}}
    prefix = make_bundle(
        tmp_path / "x", {"a": torch.tensor([0, 1, 2, 255], dtype=torch.uint8)}, changes=changes
    )
    assert np.asarray(Bundle(prefix).read("a")).view(np.uint8).tolist() == [0, 1, 1, 1]
