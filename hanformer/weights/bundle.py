"""TensorFlow checkpoints of version 2 (bundles), read with NumPy and torch alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.bundle_records import (
    HEADER_KEY,
    PART_MARK,
    WHOLE,
    Entry,
    Extent,
    Header,
    is_version_1,
    part_key,
    read_entry,
    read_header,
)
from hanformer.weights.checks import Malformed, byte_size, check_size, damage_in
from hanformer.weights.crc32c import masked_crc32c
from hanformer.weights.mapping import MappedFile
from hanformer.weights.protocols import TensorInfo, unknown
from hanformer.weights.table import read_table

_MOST_PARTS = 4096
VERSION_1 = (
    "this is a TensorFlow checkpoint of version 1, which is not read; load it in TensorFlow and save it again "
    "with tf.compat.v1.train.Saver(write_version=2)"
)

Extents = tuple[Extent, ...]


class BundleIndex:
    """What PREFIX.index alone tells of a TensorFlow checkpoint: names, shapes and dtypes, not the values.

    仅由索引文件得到的检查点内容：名称、形状与类型，没有数值。

    `read` gives tensors on the meta device. Strings and the object graph are left out of names(); `unreadable` lists
    them. Raises UserError for a missing index, for damage (naming file and entry), and for version 1.
    """

    format = "tensorflow"

    def __init__(self, prefix: str | Path, *, checksums: bool = True) -> None:
        self.origin = str(prefix)
        self._checksums = checksums
        self._index = Path(f"{prefix}.index")
        raw = read_table(self._index, checksums=checksums)
        self._header = self._read_header(raw)
        self._entries = {key: self._read_entry(key, raw[key]) for key in raw if key != HEADER_KEY}
        self._named = {self._name(key): entry for key, entry in self._entries.items() if key[:1] != PART_MARK}

    def names(self) -> tuple[str, ...]:
        """Names of all tensors that hold numbers, sorted. 全部数值张量的名字。"""
        return tuple(name for name, entry in self._named.items() if entry.dtype)

    @property
    def unreadable(self) -> Mapping[str, str]:
        """What is no tensor of numbers, such as the object graph: name -> kind. 非数值条目及其种类。"""
        return {name: entry.kind_name for name, entry in self._named.items() if not entry.dtype}

    @property
    def missing(self) -> list[Path]:
        """The data files that are not there. 缺失的数据文件。"""
        paths = (data_path(self.origin, shard, self._header.shards) for shard in sorted(self._shards()))
        return [path for path in paths if not path.is_file()]

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of a tensor. 张量的形状与类型。"""
        entry, dtype = self._find(name)
        return TensorInfo(name, entry.shape, dtype)

    def read(self, name: str) -> Tensor:
        """A tensor of that shape and dtype without values, on the meta device. 没有数值的张量。"""
        entry, dtype = self._find(name)
        with damage_in(f"{self._index}: tensor {name!r}"):
            byte_size(entry.shape, dtype)
        return torch.empty(entry.shape, dtype=dtype, device="meta")

    def _find(self, name: str) -> tuple[Entry, torch.dtype]:
        entry = self._named.get(name)
        if entry is None:
            raise unknown(self.origin, name, self.names())
        if entry.dtype is None:
            raise UserError(f"{self.origin}: {name!r} is a {entry.kind_name}, not a tensor of numbers")
        return entry, entry.dtype

    def _read_header(self, raw: Mapping[bytes, bytes]) -> Header:
        with damage_in(str(self._index)):
            if HEADER_KEY not in raw:
                raise Malformed("expected the header of a TensorFlow bundle, found none")
            if is_version_1(raw[HEADER_KEY]):
                raise UserError(f"{self._index}: {VERSION_1}")
            return read_header(raw[HEADER_KEY])

    def _read_entry(self, key: bytes, message: bytes) -> Entry:
        with damage_in(f"{self._index}: entry {key!r}"):
            return read_entry(message)

    def _name(self, key: bytes) -> str:
        try:
            return key.decode()
        except UnicodeDecodeError:
            raise UserError(f"{self._index}: the name {key!r} is not UTF-8; the file is damaged") from None

    def _shards(self) -> set[int]:
        used = {entry.shard for entry in self._entries.values() if not entry.parts}
        wrong = sorted(shard for shard in used if not 0 <= shard < self._header.shards)
        if wrong:
            raise UserError(
                f"{self._index}: a tensor lies in data file {wrong[0]}, but there are {self._header.shards} "
                "(from 0); the file is damaged, get it again"
            )
        return used


class Bundle(BundleIndex):
    """A TensorFlow checkpoint named by its prefix: PREFIX.index and PREFIX.data-00000-of-00001 and so on.

    TensorFlow 检查点（V2），以前缀命名；张量惰性读取。

    Everything but the values is checked at once; with `checksums` the values are checked when they are read. Raises
    UserError for a missing file, for damage (naming file, tensor and offset), and for version 1.
    Source: tensorflow/core/util/tensor_bundle.
    """

    def __init__(self, prefix: str | Path, *, checksums: bool = True) -> None:
        super().__init__(prefix, checksums=checksums)
        self._files = {shard: self._open(shard) for shard in self._shards()}
        self._check()

    def read(self, name: str) -> Tensor:
        """A tensor: a view of the mapped file, or a copy where it is stored in parts.

        读取张量。

        Raises UserError for an unknown name, and where the bytes are not those that were written.
        """
        entry, dtype = self._find(name)
        if not entry.parts:
            return self._stored(name, entry, dtype)
        whole = torch.empty(entry.shape, dtype=dtype)
        for extents in entry.parts:
            part = self._entries[part_key(name.encode(), extents)]
            places = [slice(start, start + length) for start, length in _resolved(extents, entry.shape)]
            whole[tuple(places)] = self._stored(name, part, dtype)
        return whole

    def _stored(self, name: str, entry: Entry, dtype: torch.dtype) -> Tensor:
        file = self._files[entry.shard]
        with damage_in(_place(file, name, entry)):
            if self._checksums and masked_crc32c(file.part(entry.offset, entry.size)) != entry.checksum:
                raise Malformed("its bytes are not those that were written (CRC-32C differs)")
            return file.tensor(entry.offset, entry.shape, dtype)

    def _open(self, shard: int) -> MappedFile:
        return MappedFile(data_path(self.origin, shard, self._header.shards))

    def _check(self) -> None:
        for name, entry in self._named.items():
            if entry.parts and entry.dtype:
                with damage_in(f"{self._index}: tensor {name!r}"):
                    self._check_parts(name, entry, entry.dtype)
        stored = [(key, entry) for key, entry in self._entries.items() if not entry.parts]
        stored.sort(key=lambda item: (item[1].shard, item[1].offset))
        shard, end = -1, 0
        for key, entry in stored:
            file = self._files[entry.shard]
            with damage_in(_place(file, key.decode(errors="replace"), entry)):
                if entry.dtype:
                    check_size(entry.shape, entry.dtype, entry.size)
                file.part(entry.offset, entry.size)
                if entry.shard == shard and entry.size and entry.offset < end:
                    raise Malformed(f"it begins before byte {end}, within another tensor")
            end = max(end if entry.shard == shard else 0, entry.offset + entry.size)
            shard = entry.shard

    def _check_parts(self, name: str, entry: Entry, dtype: torch.dtype) -> None:
        """The parts of a variable must be there, fit their shapes, and fill the whole without overlap."""
        byte_size(entry.shape, dtype)
        if len(entry.parts) > _MOST_PARTS:
            raise Malformed(f"expected at most {_MOST_PARTS} parts, got {len(entry.parts)}")
        boxes = [_resolved(extents, entry.shape) for extents in entry.parts]
        for extents, box in zip(entry.parts, boxes, strict=True):
            part = self._entries.get(part_key(name.encode(), extents))
            lengths = tuple(length for _, length in box)
            if part is None or part.parts or (part.shape, part.dtype) != (lengths, dtype):
                raise Malformed(
                    f"the part {list(box)} of shape {list(entry.shape)} is not there, or of another shape"
                )
        if sum(math.prod(length for _, length in box) for box in boxes) != math.prod(entry.shape):
            raise Malformed(f"its {len(boxes)} parts do not fill the shape {list(entry.shape)}")
        _check_apart(boxes)


def data_path(prefix: str | Path, shard: int, shards: int) -> Path:
    """The data file of a shard. 数据分片的文件名。"""
    return Path(f"{prefix}.data-{shard:05}-of-{shards:05}")


def _place(file: MappedFile, name: str, entry: Entry) -> str:
    return f"{file.path}: tensor {name!r} at byte {entry.offset}"


def _resolved(extents: Extents, shape: tuple[int, ...]) -> Extents:
    """Start and length of a part along each dimension of the whole."""
    if len(extents) != len(shape):
        raise Malformed(f"a part of {len(extents)} dimensions for the shape {list(shape)}")
    box = tuple(
        (start, whole - start if length == WHOLE else length)
        for (start, length), whole in zip(extents, shape, strict=True)
    )
    if any(
        start < 0 or length < 0 or start + length > whole
        for (start, length), whole in zip(box, shape, strict=True)
    ):
        raise Malformed(f"the part {list(box)} reaches out of the shape {list(shape)}")
    return box


def _check_apart(boxes: list[Extents]) -> None:
    if len(boxes) < 2 or not boxes[0]:
        return
    starts = np.array([[start for start, _ in box] for box in boxes])
    ends = starts + np.array([[length for _, length in box] for box in boxes])
    for place in range(len(boxes) - 1):
        low = np.maximum(starts[place], starts[place + 1 :])
        high = np.minimum(ends[place], ends[place + 1 :])
        if (low < high).all(1).any():
            raise Malformed(f"the part {list(boxes[place])} overlaps another one")
