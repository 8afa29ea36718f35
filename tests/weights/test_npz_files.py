"""NumPy archives: numbers of every kind and order; objects, lies and damage are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hanformer.errors import UserError
from hanformer.weights.npz_files import NpzFile
from tests.weights.material import damaged, put, read_all


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numbers_of_every_kind_and_order(tmp_path: Path, save) -> None:  # type: ignore[no-untyped-def]
    kinds = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", ">f4", ">i8"]
    arrays = {f"层/{kind}": np.arange(6).reshape(2, 3).astype(kind) for kind in kinds}
    arrays |= {"columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)), "scalar": np.float32(2.5)}
    arrays |= {"empty": np.zeros((0, 3)), "long": np.arange(400_000)}
    save(tmp_path / "x.npz", **arrays)
    source = NpzFile(tmp_path / "x.npz")
    assert source.names() == tuple(arrays) and source.format == "npz"
    for name, array in arrays.items():
        tensor = source.read(name)
        assert np.array_equal(tensor.numpy(), array) and tensor.is_contiguous()
        assert (source.info(name).shape, source.info(name).dtype) == (tensor.shape, tensor.dtype)
        assert tensor.shape == array.shape
        tensor.zero_()
    assert np.array_equal(source.read("long").numpy(), arrays["long"])
    with pytest.raises(UserError, match="no tensor named 'other'"):
        source.read("other")


def test_what_are_no_numbers(tmp_path: Path) -> None:
    for array in (
        np.array([{"a": 1}], dtype=object),
        np.array(["a"]),
        np.zeros(2, "i4,f4"),
        np.zeros(1, "M8[s]"),
    ):
        np.savez(tmp_path / "x.npz", a=array)
        with pytest.raises(UserError, match="array 'a' at byte 0: .*numbers"):
            NpzFile(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", a=np.zeros(1, np.longdouble))
    with pytest.raises(UserError, match="no counterpart"):
        NpzFile(tmp_path / "x.npz")


def member(shape: str, data: bytes = bytes(8), order: str = "False") -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def archive(path: Path, content: bytes, packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        file.writestr("a.npy", content)
    return path


@pytest.mark.parametrize(
    "content, message",
    [
        (member("(3,)"), r"shape \[3\] .* takes 12 bytes, but 8"),
        (member(f"({1 << 48},)"), "takes"),
        (member(f"({1 << 60}, {1 << 60})"), "larger than any memory"),
        (member("(-2,)"), "negative"),
        (member("(2.0,)"), "header is none"),
        (member("__import__('os').getcwd()"), "header is none"),
        (member("(2,)").replace(b"NUMPY\x01", b"NUMPY\x09"), "header is none"),
        (b"", "header is none"),
        (b"\x93NUMPY", "header is none"),
    ],
)
def test_headers_that_lie(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.npz: array 'a' at byte 0: .*{message}"):
        NpzFile(archive(tmp_path / "x.npz", content))
    assert NpzFile(archive(tmp_path / "y.npz", member("(2,)"))).read("a").tolist() == [0, 0]


def test_bombs(tmp_path: Path) -> None:
    """A member that claims more than deflate can hold; a true one of zeros is read."""
    path = archive(tmp_path / "x.npz", member("(2500000,)", bytes(10_000_000)), zipfile.ZIP_DEFLATED)
    assert NpzFile(path).read("a").shape == (2_500_000,)
    content = path.read_bytes()
    true = len(member("(2500000,)", bytes(10_000_000))).to_bytes(4, "little")
    assert content.count(true) == 2
    put(path, content.replace(true, (0xF0000000).to_bytes(4, "little")))
    with pytest.raises(UserError, match="claim to hold 4026531840"):
        NpzFile(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage(tmp_path: Path, packing: int) -> None:
    path, generator, refused = tmp_path / "x.npz", np.random.default_rng(0), 0
    content = archive(path, member("(2,)", b"abcdefgh"), packing).read_bytes()
    expected = torch.from_numpy(np.frombuffer(b"abcdefgh", np.float32).copy())
    for _ in range(500):
        put(path, damaged(content, generator))
        try:
            found = read_all(NpzFile(path))
            assert all(torch.equal(tensor, expected) for tensor in found.values())
        except UserError as error:
            assert "x.npz" in str(error)
            refused += 1
    assert refused > 200
    for end in range(len(content)):
        put(path, content[:end])
        with pytest.raises(UserError):
            NpzFile(path)


def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("a.npy", member("(2,)"))
        file.writestr("a.npy", member("(2,)"))
    (tmp_path / "x.npz").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="two arrays"):
        NpzFile(tmp_path / "x.npz")
