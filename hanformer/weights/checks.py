"""What every format checks: sizes that make sense, and damage that is told with its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from hanformer.errors import UserError

_GREATEST = (1 << 63) - 1
_MOST_DIMENSIONS = 64


class Malformed(ValueError):
    """Bytes that are not what their format asks for; `damage_in` adds the file and the place.

    字节内容不符合格式要求。
    """


@contextmanager
def damage_in(where: str) -> Iterator[None]:
    """Turns Malformed within the block into a UserError that begins with `where`.

    把格式错误转为指明位置的 UserError。
    """
    try:
        yield
    except Malformed as error:
        raise UserError(f"{where}: {error}; the file is damaged or incomplete, get it again") from None


def byte_size(shape: Sequence[int], dtype: torch.dtype) -> int:
    """How many bytes a dense tensor takes: prod(shape) * itemsize, in exact integers.

    稠密张量的字节数。

    Raises Malformed for a negative dimension, for too many of them, and for what no address could reach.
    """
    if len(shape) > _MOST_DIMENSIONS:
        raise Malformed(f"expected at most {_MOST_DIMENSIONS} dimensions, got {len(shape)}")
    if any(length < 0 for length in shape):
        raise Malformed(f"shape {list(shape)} has a negative dimension")
    # Strides count the other dimensions even where one of them is 0.
    if math.prod(max(length, 1) for length in shape) * dtype.itemsize > _GREATEST:
        raise Malformed(f"shape {list(shape)} is larger than any memory")
    return math.prod(shape) * dtype.itemsize


def check_size(shape: Sequence[int], dtype: torch.dtype, size: int) -> None:
    """Raises Malformed unless `size` bytes are what shape and dtype ask for. 检查字节数与形状是否相符。"""
    needed = byte_size(shape, dtype)
    if needed != size:
        raise Malformed(f"shape {list(shape)} of {dtype} takes {needed} bytes, but {size} are stored")


def shortened(names: Sequence[str], most: int = 6) -> str:
    """The first names of a list, for messages. 用于提示的前几个名字。"""
    return ", ".join(names[:most]) + (f" ... ({len(names)} in all)" if len(names) > most else "")
