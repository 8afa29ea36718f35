"""safetensors: the same files as the reference library, both ways; shards; damage with its place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hanformer.errors import UserError
from hanformer.weights.safetensors_files import SafetensorsFile, write_safetensors
from hanformer.weights.sharded import Sharded
from tests.weights.material import damaged, every_dtype, put, read_all, same


def header_of(path: Path, header: object, data: bytes = bytes(8)) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    put(path, len(content).to_bytes(8, "little") + content + data)
    return path


def test_ours_is_read_by_the_reference(tmp_path: Path) -> None:
    tensors = every_dtype()
    write_safetensors(tmp_path / "x.safetensors", tensors)
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys() and all(same(found[name], tensors[name]) for name in tensors)


def test_the_reference_is_read_by_us(tmp_path: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in every_dtype().items()}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"made": "elsewhere"})
    source = SafetensorsFile(tmp_path / "x.safetensors")
    assert set(source.names()) == set(tensors) and source.format == "safetensors"
    for name, tensor in tensors.items():
        assert same(source.read(name), tensor)
        assert (source.info(name).shape, source.info(name).dtype) == (tensor.shape, tensor.dtype)
    with pytest.raises(UserError, match="no tensor named 'other'; it holds"):
        source.read("other")


def test_nothing_at_all(tmp_path: Path) -> None:
    write_safetensors(tmp_path, {})
    assert SafetensorsFile(tmp_path / "model.safetensors").names() == () and not load_file(
        tmp_path / "model.safetensors"
    )


def test_shards_and_back_again(tmp_path: Path) -> None:
    """40, 40 and 80 bytes in files of at most 80; a later writing with fewer files removes what it replaces."""
    tensors = {"a": torch.ones(10), "b": torch.zeros(10), "c": torch.ones(20)}
    write_safetensors(tmp_path, {"old": torch.ones(1)})
    write_safetensors(tmp_path, tensors, shard_bytes=80)
    files = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    index = json.loads((tmp_path / files[2]).read_text())
    assert index == {
        "metadata": {"total_size": 160},
        "weight_map": {"a": files[0], "b": files[0], "c": files[1]},
    }
    source = Sharded(tmp_path / files[2], SafetensorsFile)
    assert source.format == "safetensors" and source.names() == ("a", "b", "c")
    assert all(same(source.read(name), tensor) for name, tensor in tensors.items())
    assert source.info("c").shape == (20,)
    write_safetensors(tmp_path, tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    with pytest.raises(UserError, match="shard_bytes of at least 1"):
        write_safetensors(tmp_path, tensors, shard_bytes=0)


def test_a_file_may_be_written_over_itself_and_training_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": torch.ones(5000)})
    before, tensors = path.read_bytes(), read_all(SafetensorsFile(path))
    tensors["a"].mul_(2)
    assert path.read_bytes() == before
    write_safetensors(path, tensors)
    assert (SafetensorsFile(path).read("a") == 2).all() and [file.name for file in tmp_path.iterdir()] == [
        path.name
    ]


@pytest.mark.parametrize(
    "name, tensor",
    [
        ("a", torch.ones(1, dtype=torch.complex128)),
        ("__metadata__", torch.ones(1)),
        ("a", torch.ones(1, device="meta")),
        ("\udc80", torch.ones(1)),
    ],
)
def test_what_cannot_be_held(tmp_path: Path, name: str, tensor: torch.Tensor) -> None:
    with pytest.raises(UserError):
        write_safetensors(tmp_path / "x.safetensors", {name: tensor})
    assert not list(tmp_path.iterdir())


def entry(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    "header, message",
    [
        (b"", "no JSON"),
        (b"[]", "a list, not an object"),
        (b"{" * 100_000, "no JSON"),
        (b'{"a": ' * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        ({"a": 1}, "tensor 'a': expected dtype, shape and two data_offsets"),
        (entry(dtype="F3"), "dtype 'F3' is none of F64"),
        (entry(dtype=[]), "is none of"),
        (entry(shape=[2.0]), "expected dtype, shape"),
        (entry(shape=[True]), "expected dtype, shape"),
        (entry(shape=[3]), r"at byte \d+: shape \[3\] of torch.float32 takes 12 bytes, but 8"),
        (entry(shape=[-2]), "negative"),
        (entry(shape=[1 << 62]), "larger than any memory"),
        (entry(shape=[1 << 48]), "takes"),
        (entry(data_offsets=[0]), "two data_offsets"),
        (entry(data_offsets=[8, 0]), "do not ascend"),
        (entry(data_offsets=[-8, 0]), "do not ascend"),
        (entry(data_offsets=[0, 1 << 50]), "were asked for"),
        (entry(data_offsets=[0, 4], shape=[1]), "end at byte"),
        (entry(data_offsets=[4, 8], shape=[1]), "expected it at byte"),
        (
            {**entry(), "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
            "tensor 'b' at byte .*expected it",
        ),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: object, message: str) -> None:
    path = header_of(tmp_path / "x.safetensors", header)
    with pytest.raises(UserError, match=rf"x\.safetensors: .*{message}.*get it again"):
        SafetensorsFile(path)


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 8, (9).to_bytes(8, "little") + b"{}"])
def test_cut_off_at_the_beginning(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="x.safetensors"):
        SafetensorsFile(tmp_path / "x.safetensors")


def test_damage_of_any_kind(tmp_path: Path) -> None:
    path, generator, refused = tmp_path / "x.safetensors", np.random.default_rng(0), 0
    write_safetensors(path, {"a": torch.ones(2, 3), "b": torch.tensor([1], dtype=torch.int8)})
    content = path.read_bytes()
    for _ in range(1000):
        put(path, damaged(content, generator))
        try:
            read_all(SafetensorsFile(path))
        except UserError as error:
            assert "x.safetensors" in str(error)
            refused += 1
    assert 500 < refused < 1000
    for end in range(len(content)):
        put(path, content[:end])
        with pytest.raises(UserError):
            SafetensorsFile(path)
