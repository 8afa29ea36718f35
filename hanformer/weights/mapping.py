"""A file mapped into memory, copy on write: tensors are views of it, and writing to them never reaches it."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.checks import Malformed, byte_size

_LIVE: weakref.WeakSet[MappedFile] = weakref.WeakSet()


class MappedFile:
    """The bytes of a file, read as they are touched.

    写时复制的内存映射：读取时才装入，写入不影响文件。

    The mapping lives as long as a tensor on it. Another program must not shorten the file meanwhile; replacing
    it, as `weights.atomic` does, is harmless. Raises UserError where it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                self._bytes = _map(file.fileno()) if self.size else bytearray()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); "
                "check the path, and that all files of the checkpoint are there"
            ) from None
        _LIVE.add(self)

    def part(self, offset: int, size: int) -> memoryview:
        """`size` bytes from `offset` on, not copied.

        取出一段字节（不复制）。

        Raises Malformed where the file has no such bytes.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise Malformed(f"bytes {offset} to {offset + size} were asked for, but the file has {self.size}")
        return memoryview(self._bytes)[offset : offset + size]

    def tensor(self, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A tensor over the bytes from `offset` on; a copy only where they are not aligned, or truth values.

        文件字节之上的张量（未对齐或布尔型时复制）。

        Raises Malformed where the file has no such bytes, or the shape is absurd.
        """
        size = byte_size(shape, dtype)
        self.part(offset, size)
        if not size:
            return torch.empty(shape, dtype=dtype)
        if dtype == torch.bool:
            # A byte other than 0 and 1 is no truth value; torch would take it as it is.
            return (
                torch.frombuffer(self._bytes, dtype=torch.uint8, count=size, offset=offset).reshape(shape)
                != 0
            )
        if offset % dtype.itemsize:
            raw = torch.frombuffer(self._bytes, dtype=torch.uint8, count=size, offset=offset)
            return raw.clone().view(dtype).reshape(shape)
        count = size // dtype.itemsize
        return torch.frombuffer(self._bytes, dtype=dtype, count=count, offset=offset).reshape(shape)

    def let_go(self, tensor: Tensor) -> None:
        """Gives the memory of an unchanged tensor back, if it lies in this file; it is read again when touched.

        释放映射在本文件上、且未被修改的张量所占的内存。
        """
        if not isinstance(self._bytes, mmap.mmap):
            return
        base = torch.frombuffer(self._bytes, dtype=torch.uint8, count=1).data_ptr()
        start = tensor.untyped_storage().data_ptr() - base
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (start + tensor.untyped_storage().nbytes()) // mmap.PAGESIZE * mmap.PAGESIZE
        if 0 <= start < self.size and first < last:
            self._bytes.madvise(mmap.MADV_DONTNEED, first, last - first)


def let_go(tensor: Tensor) -> None:
    """Gives back the memory of a tensor that lies in a mapped file and was copied out of it; others are left.

    释放已复制出来的映射张量所占的内存。

    Only for tensors that nobody has written to: what was written would be lost.
    """
    for file in list(_LIVE):
        file.let_go(tensor)


def _map(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
