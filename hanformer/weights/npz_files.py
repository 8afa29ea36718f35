"""NumPy archives (.npz): arrays of numbers only, never Python objects."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.checks import Malformed, check_size, damage_in
from hanformer.weights.protocols import TensorInfo, unknown

_SUFFIX = ".npy"
#: No byte of a deflated member can stand for more.
_GREATEST_GROWTH = 1032
_LONGEST_HEADER = 1 << 16
_CHUNK = 1 << 20
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class _Member:
    file: zipfile.ZipInfo
    info: TensorInfo
    start: int
    by_columns: bool
    order: np.dtype[np.generic]


class NpzFile:
    """One .npz archive, packed or not.

    NumPy 的 npz 文件（不允许对象数组）。

    The headers of all arrays are read at once. Raises UserError for damage and for arrays of other things than
    numbers, naming the array and its offset.
    """

    format = "npz"

    def __init__(self, path: str | Path) -> None:
        self.origin = str(path)
        self._path = Path(path)
        self._members: dict[str, _Member] = {}
        try:
            with zipfile.ZipFile(self._path) as archive:
                members = archive.infolist()
                for file in members:
                    self._add(archive, file)
        except _BROKEN as error:
            raise self._broken(error) from None

    def names(self) -> tuple[str, ...]:
        """All names of arrays. 全部数组名。"""
        return tuple(self._members)

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of an array. 数组的形状与类型。"""
        return self._find(name).info

    def read(self, name: str) -> Tensor:
        """The array as a tensor of its own; the archive's checksum is checked. 读取数组并校验。"""
        member = self._find(name)
        size, count = member.file.file_size, 0
        content = bytearray(size)
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(member.file) as file:
                while chunk := file.read(_CHUNK):
                    content[count : count + len(chunk)] = chunk
                    count += len(chunk)
                if count != size:
                    raise EOFError(f"{size} bytes were announced, {count} are there")
        except _BROKEN as error:
            raise self._broken(error, member.file) from None
        return _tensor(content, member)

    def _find(self, name: str) -> _Member:
        if name not in self._members:
            raise unknown(self.origin, name, self._members)
        return self._members[name]

    def _add(self, archive: zipfile.ZipFile, file: zipfile.ZipInfo) -> None:
        name = file.filename.removesuffix(_SUFFIX)
        with damage_in(f"{self.origin}: array {name!r} at byte {file.header_offset}"):
            if file.file_size > max(file.compress_size, 0) * _GREATEST_GROWTH:
                raise Malformed(f"{file.compress_size} bytes claim to hold {file.file_size}")
            if name in self._members:
                raise Malformed("there are two arrays of this name")
            with archive.open(file) as stored:
                self._members[name] = _read_header(file, name, stored.read(_LONGEST_HEADER))

    def _broken(self, error: Exception, file: zipfile.ZipInfo | None = None) -> UserError:
        if isinstance(error, UserError):
            return error
        place = f": array {file.filename!r} at byte {file.header_offset}" if file else ""
        return UserError(f"{self.origin}{place}: not a whole npz archive ({error}); get it again")


def _read_header(file: zipfile.ZipInfo, name: str, beginning: bytes) -> _Member:
    stream = io.BytesIO(beginning)
    try:
        version = npy.read_magic(stream)
        reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, by_columns, order = reader(stream)
    except Exception as error:
        # NumPy parses the header as a Python literal, which fails in many ways.
        raise Malformed(f"its header is none of NumPy's ({type(error).__name__})") from None
    dtype = _dtype(order)
    check_size(shape, dtype, file.file_size - stream.tell())
    return _Member(file, TensorInfo(name, tuple(shape), dtype), stream.tell(), by_columns, order)


def _dtype(order: np.dtype[np.generic]) -> torch.dtype:
    if order.kind not in "biufc":
        raise Malformed(f"expected numbers, got an array of {order}")
    try:
        return torch.from_numpy(np.empty(0, order.newbyteorder("="))).dtype
    except TypeError:
        raise Malformed(f"torch has no counterpart of {order}") from None


def _tensor(content: bytearray, member: _Member) -> Tensor:
    shape = member.info.shape
    if not member.info.dtype.itemsize * len(content) or 0 in shape:
        return torch.empty(shape, dtype=member.info.dtype)
    flat = np.frombuffer(content, member.order, offset=member.start)
    array = flat.reshape(shape, order="F" if member.by_columns else "C")
    return torch.from_numpy(np.ascontiguousarray(array, member.order.newbyteorder("=")).reshape(shape))
