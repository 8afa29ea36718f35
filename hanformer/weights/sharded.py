"""Checkpoints in several files of one format, with a JSON index that says which tensor lies where."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.checks import shortened
from hanformer.weights.protocols import Source, TensorInfo, unknown

_LARGEST_INDEX = 1 << 28


class Sharded:
    """Several sources under one list of names.

    分片检查点：索引指明每个张量所在的文件。

    `opens` opens one file. Raises UserError where the index is damaged, a file is missing or lacks a tensor.
    """

    def __init__(self, index: str | Path, opens: Callable[[Path], Source]) -> None:
        self.origin = str(index)
        self._file_of = read_weight_map(Path(index))
        folder = Path(index).parent
        self._sources = {file: opens(folder / file) for file in dict.fromkeys(self._file_of.values())}
        self.format = next(iter(self._sources.values())).format
        for file, source in self._sources.items():
            held = set(source.names())
            lost = [name for name, place in self._file_of.items() if place == file and name not in held]
            if lost:
                raise UserError(
                    f"{folder / file}: {self.origin} promises {shortened(lost)}, which is not in it; "
                    "get all files of the checkpoint from one place"
                )

    def names(self) -> tuple[str, ...]:
        """All names of the index. 索引中的全部名字。"""
        return tuple(self._file_of)

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of a tensor. 张量的形状与类型。"""
        return self._source(name).info(name)

    def read(self, name: str) -> Tensor:
        """The tensor, from the file that holds it. 从所在文件读取张量。"""
        return self._source(name).read(name)

    def _source(self, name: str) -> Source:
        if name not in self._file_of:
            raise unknown(self.origin, name, self._file_of)
        return self._sources[self._file_of[name]]


def read_weight_map(index: Path) -> Mapping[str, str]:
    """Which file, in the folder of the index, holds which tensor.

    读取索引：张量名 -> 文件名。

    Raises UserError where the index is no such mapping, is empty, or names files elsewhere.
    """
    wanted = f"{index}: expected an index with a weight_map from tensor names to file names"
    try:
        if index.stat().st_size > _LARGEST_INDEX:
            raise UserError(f"{wanted}, got {index.stat().st_size} bytes")
        content = json.loads(index.read_bytes())
    except OSError as error:
        raise UserError(f"{index}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{wanted}, got no valid JSON ({type(error).__name__}); get it again") from None
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{wanted}, found none; is it the index of a sharded checkpoint?")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not file or Path(file).name != file or "\\" in file or "\0" in file:
            raise UserError(f"{wanted} in the same folder, but {name!r} lies in {file!r}")
    return weight_map
