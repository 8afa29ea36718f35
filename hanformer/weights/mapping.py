"""A file mapped into memory, copy on write: tensors are views of it, and writing to them never reaches it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.checks import Malformed, byte_size


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


def _map(descriptor: int) -> mmap.mmap:
    return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
