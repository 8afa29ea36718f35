"""What a checkpoint is to those who load it: a read-only mapping from names to tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.checks import shortened


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor without reading it.

    不读取数据即可知道的张量信息。
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class Source(Protocol):
    """A checkpoint of any format; tensors are read one by one, when asked for.

    任意格式的检查点：按名字惰性读取张量。

    Tensors lie on the CPU and may be written to: where they are a view of the file, it is mapped copy-on-write,
    so that the file never changes. Names that are not there, and damage, raise UserError.
    """

    @property
    def origin(self) -> str:
        """The path as the user wrote it."""

    @property
    def format(self) -> str:
        """safetensors, torch, tensorflow or npz."""

    def names(self) -> tuple[str, ...]:
        """All names of tensors, in the order of the file."""

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of a tensor."""

    def read(self, name: str) -> Tensor:
        """The tensor itself."""


def unknown(origin: str, name: str, names: Iterable[str]) -> UserError:
    """The error for a name that a checkpoint does not hold. 名字不存在时的错误。"""
    held = shortened(tuple(names), 4) or "no tensor at all"
    return UserError(f"{origin}: no tensor named {name!r}; it holds {held}")
