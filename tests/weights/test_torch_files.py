"""Files of torch.save: weights only, of either form; trainers' checkpoints; code and damage are refused."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hanformer.errors import UserError
from hanformer.weights.sharded import Sharded
from hanformer.weights.torch_files import TorchFile
from tests.weights.material import damaged, every_dtype, put, read_all, same


@pytest.mark.parametrize("zipped", [True, False])
def test_both_forms(tmp_path: Path, zipped: bool) -> None:
    tensors = {name: tensor for name, tensor in every_dtype().items() if zipped or not _is_new(tensor.dtype)}
    torch.save(tensors, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    source = TorchFile(tmp_path / "x.bin")
    assert source.names() == tuple(tensors) and source.format == "torch"
    for name, tensor in tensors.items():
        assert same(source.read(name), tensor) and source.read(name).is_contiguous()
        assert source.info(name).shape == tensor.shape and source.info(name).dtype == tensor.dtype
    with pytest.raises(UserError, match="no tensor named 'other'"):
        source.read("other")


def _is_new(dtype: torch.dtype) -> bool:
    """The older form knows no dtypes that came later."""
    return dtype in (torch.uint16, torch.uint32, torch.uint64) or "float8" in str(dtype)


@pytest.mark.parametrize("inner", ["state_dict", "model_state_dict", "model", "module", "net"])
def test_a_trainers_checkpoint(tmp_path: Path, inner: str) -> None:
    weights = torch.nn.Linear(2, 3).state_dict()
    torch.save({"epoch": 3, inner: weights, "optimizer": {"state": {}}}, tmp_path / "x.ckpt")
    assert TorchFile(tmp_path / "x.ckpt").names() == ("weight", "bias")


def test_tied_weights_parameters_and_training(tmp_path: Path) -> None:
    shared = torch.nn.Parameter(torch.ones(4, 4))
    torch.save({"a": shared, "b": shared.T, "step": 7}, tmp_path / "x.pt")
    before = (tmp_path / "x.pt").read_bytes()
    tensors = read_all(TorchFile(tmp_path / "x.pt"))
    assert tensors.keys() == {"a", "b"} and not tensors["a"].requires_grad
    tensors["a"].fill_(2)
    assert (tmp_path / "x.pt").read_bytes() == before


class Runs:
    """What a hostile file would hold: opening it with pickle calls a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def test_code_never_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.ones(1), "b": Runs()}, tmp_path / "x.bin")
    with pytest.raises(UserError, match=r"x\.bin: .*never run.*model.state_dict\(\)"):
        TorchFile(tmp_path / "x.bin")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "y.bin")
    with pytest.raises(UserError, match="never run"):
        TorchFile(tmp_path / "y.bin")
    assert not capsys.readouterr().out


class Hostile:
    """A function of a module that torch refuses by its name alone."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return self.function, ("this must not run",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", [os.system, eval, print, Path, np.float64(3), {1, 2}, re.compile("a")])
def test_objects_beside_tensors_are_called_so(tmp_path: Path, beside: object, zipped: bool) -> None:
    held = Hostile(beside) if callable(beside) else beside
    content = {"weight": torch.ones(2), "beside": held}
    torch.save(content, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    if isinstance(beside, set):  # torch reads sets
        assert TorchFile(tmp_path / "x.bin").names() == ("weight",)
        return
    with pytest.raises(UserError, match="holds Python objects other than tensors") as caught:
        TorchFile(tmp_path / "x.bin")
    assert "get it again" not in str(caught.value)


def test_what_is_broken_is_told_without_advice_to_run_it(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "x.bin", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x.bin").read_bytes()
    (tmp_path / "x.bin").write_bytes(content[:24] + b"\xff" + content[25:])
    with pytest.raises(UserError, match="not a whole file of torch.save") as caught:
        TorchFile(tmp_path / "x.bin")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content, found", [([1, 2], "list"), ({"epoch": 1}, "epoch"), ({}, "nothing")])
def test_no_tensors(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UserError, match=f"expected a mapping from names to tensors.*found {found}"):
        TorchFile(tmp_path / "x.pt")


def test_raw_exports_of_llama2_c(tmp_path: Path, data_folder: Path) -> None:
    for name in ("stories260K.bin", "checkpoint_v1.bin"):
        with pytest.raises(UserError, match="raw export of llama2.c, which has no names"):
            TorchFile(data_folder / "checkpoints" / "stories260K" / name)


def test_strangers(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(struct.pack("<7i", 64, 172, 5, 8, 4, 512, 512) + bytes(64))
    (tmp_path / "b.bin").write_bytes(b"24ka" + bytes(64))
    for name in ("a.bin", "b.bin"):
        with pytest.raises(UserError, match="llama2.c"):
            TorchFile(tmp_path / name)
    for content in (b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"):
        (tmp_path / "c.bin").write_bytes(content)
        with pytest.raises(UserError, match="expected a file of torch.save"):
            TorchFile(tmp_path / "c.bin")
    with pytest.raises(UserError, match="cannot be read"):
        TorchFile(tmp_path / "missing.bin")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_damage(tmp_path: Path, zipped: bool) -> None:
    path, generator, refused = tmp_path / "x.bin", np.random.default_rng(0), 0
    torch.save({"a": torch.ones(2, 3), "b": torch.ones(4)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for _ in range(200):
        put(path, damaged(content, generator))
        try:
            read_all(TorchFile(path))
        except UserError as error:
            assert "x.bin" in str(error)
            refused += 1
    for end in range(0, len(content), 97):
        put(path, content[:end])
        with pytest.raises(UserError):
            TorchFile(path)
    assert refused > 50


def test_a_shape_larger_than_the_file(tmp_path: Path) -> None:
    """A gigabyte on paper: torch would hand it out."""
    torch.save({"a": torch.ones(3, 5)}, tmp_path / "x.bin")
    content = (tmp_path / "x.bin").read_bytes()
    shape = b"K\x03K\x05\x86"
    assert content.count(shape) == 1
    (tmp_path / "x.bin").write_bytes(content.replace(shape, b"K\xffK\xff\x86"))
    with pytest.raises(UserError, match="x.bin"):
        TorchFile(tmp_path / "x.bin")


def test_shards(tmp_path: Path) -> None:
    index = tmp_path / "pytorch_model.bin.index.json"
    torch.save({"a": torch.ones(1)}, tmp_path / "1.bin")
    torch.save({"b": torch.zeros(2)}, tmp_path / "2.bin")
    index.write_text(json.dumps({"weight_map": {"a": "1.bin", "b": "2.bin"}}))
    source = Sharded(index, TorchFile)
    assert source.format == "torch" and same(source.read("b"), torch.zeros(2))
    with pytest.raises(UserError, match="no tensor named 'c'; it holds a, b"):
        source.info("c")
    index.write_text(json.dumps({"weight_map": {"a": "1.bin", "b": "1.bin"}}))
    with pytest.raises(UserError, match=r"1\.bin: .*promises b, which is not in it"):
        Sharded(index, TorchFile)
    (tmp_path / "1.bin").unlink()
    with pytest.raises(UserError, match=r"1\.bin: cannot be read"):
        Sharded(index, TorchFile)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("[]", "found none"),
        ('{"weight_map": {}}', "found none"),
        ('{"weight_map": {"a": 1}}', "'a' lies in 1"),
        ('{"weight_map": {"a": "../x.bin"}}', "in the same folder"),
        ('{"weight_map": {"a": "/x.bin"}}', "in the same folder"),
        ('{"weight_map": {"a": ".."}}', "cannot be read|in the same folder"),
        ('{"weight_map": {"a": "..\\\\x.bin"}}', "in the same folder"),
    ],
)
def test_indexes_that_lie(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "i.json").write_text(content)
    with pytest.raises(UserError, match=message):
        Sharded(tmp_path / "i.json", TorchFile)
