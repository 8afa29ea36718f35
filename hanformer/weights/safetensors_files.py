"""safetensors files: mapped when read, streamed when written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.atomic import writing_together
from hanformer.weights.checks import Malformed, check_size, damage_in
from hanformer.weights.mapping import MappedFile
from hanformer.weights.protocols import TensorInfo, unknown
from hanformer.weights.streams import check_name, content_of, stored_size

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
_WORDS = {dtype: word for word, dtype in DTYPES.items()}
_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class _Stored:
    info: TensorInfo
    offset: int


class SafetensorsFile:
    """One safetensors file.

    一个 safetensors 文件。

    The header is checked at once. Raises UserError for damage, naming the tensor and its offset.
    Source: huggingface/safetensors, README, "Format".
    """

    format = "safetensors"

    def __init__(self, path: str | Path) -> None:
        self.origin = str(path)
        self._file = MappedFile(path)
        with damage_in(self.origin):
            start, header = _read_header(self._file)
        self._stored = self._read_entries(start, header)

    def names(self) -> tuple[str, ...]:
        """All names, in the order of the data. 全部张量名。"""
        return tuple(self._stored)

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of a tensor. 张量的形状与类型。"""
        return self._find(name).info

    def read(self, name: str) -> Tensor:
        """A view of the mapped file. 读取张量（文件映射的视图）。"""
        stored = self._find(name)
        with damage_in(f"{self.origin}: tensor {name!r} at byte {stored.offset}"):
            return self._file.tensor(stored.offset, stored.info.shape, stored.info.dtype)

    def _find(self, name: str) -> _Stored:
        if name not in self._stored:
            raise unknown(self.origin, name, self._stored)
        return self._stored[name]

    def _read_entries(self, start: int, header: Mapping[str, object]) -> dict[str, _Stored]:
        found = []
        for name, entry in header.items():
            with damage_in(f"{self.origin}: tensor {name!r}"):
                info, begin, end = _read_entry(name, entry)
            with damage_in(f"{self.origin}: tensor {name!r} at byte {start + begin}"):
                self._file.part(start + begin, end - begin)
                check_size(info.shape, info.dtype, end - begin)
            found.append((begin, end, info))
        found.sort(key=lambda item: item[:2])
        self._check_filled(start, [(begin, end, info.name) for begin, end, info in found])
        return {info.name: _Stored(info, start + begin) for begin, _, info in found}

    def _check_filled(self, start: int, places: list[tuple[int, int, str]]) -> None:
        reached = 0
        for begin, end, name in places:
            with damage_in(f"{self.origin}: tensor {name!r} at byte {start + begin}"):
                if begin != reached:
                    raise Malformed(f"expected it at byte {start + reached}, where the one before it ends")
            reached = end
        with damage_in(self.origin):
            if start + reached != self._file.size:
                raise Malformed(
                    f"its tensors end at byte {start + reached}, the file at byte {self._file.size}"
                )


def _read_header(file: MappedFile) -> tuple[int, dict[str, object]]:
    """Where the data begin, and the header without its metadata."""
    length = int.from_bytes(file.part(0, _LENGTH_BYTES), "little")
    if length > min(_LARGEST_HEADER, file.size - _LENGTH_BYTES):
        raise Malformed(f"its first 8 bytes announce a header of {length} bytes; the file has {file.size}")
    try:
        header = json.loads(bytes(file.part(_LENGTH_BYTES, length)))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"its header at byte 8 is no JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise Malformed(f"its header at byte 8 is a {type(header).__name__}, not an object")
    header.pop(_METADATA, None)
    return _LENGTH_BYTES + length, header


def _read_entry(name: str, entry: object) -> tuple[TensorInfo, int, int]:
    values = entry if isinstance(entry, dict) else {}
    word, shape, offsets = values.get("dtype"), values.get("shape"), values.get("data_offsets")
    if not _are_integers(shape) or not _are_integers(offsets) or len(offsets) != 2:
        raise Malformed(f"expected dtype, shape and two data_offsets, got {str(entry)[:80]}")
    if not isinstance(word, str) or word not in DTYPES:
        raise Malformed(f"its dtype {str(word)[:20]!r} is none of {', '.join(DTYPES)}")
    if not 0 <= offsets[0] <= offsets[1]:
        raise Malformed(f"its data_offsets {offsets} do not ascend")
    return TensorInfo(name, tuple(shape), DTYPES[word]), offsets[0], offsets[1]


def _are_integers(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int for value in values)


def write_safetensors(
    target: str | Path, tensors: Mapping[str, Tensor], *, shard_bytes: int | None = None
) -> None:
    """Writes NAME.safetensors, or model.safetensors into a folder; with `shard_bytes`, in as many files as needed.

    写出 safetensors（可分片，附索引 JSON），各文件同时生效。

    Shards are called NAME-00001-of-00002.safetensors and are listed in NAME.safetensors.index.json. One tensor is
    held at a time; the files take their names together, and those of an older writing disappear. Raises UserError
    for what a file cannot hold and where the folder cannot be written.
    """
    path = Path(target)
    folder, stem = (path.parent, path.stem) if path.suffix == ".safetensors" else (path, "model")
    sizes = _sizes(path, tensors)
    groups = _filled(sizes, shard_bytes)
    shards = _shard_names(stem, groups)
    index = {f"{stem}.safetensors.index.json": _index_json(sizes, shards)} if len(groups) > 1 else {}
    written = {*shards, *index}
    with writing_together(folder, written, _older(folder, stem, written)) as place:
        for file, names in shards.items():
            _write_file(place(file), {name: tensors[name] for name in names})
        for file, content in index.items():
            place(file).write_text(content, encoding="utf-8")


def _sizes(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    for name, tensor in tensors.items():
        check_name(str(path), name)
        if tensor.dtype not in _WORDS or name == _METADATA:
            raise UserError(
                f"{path}: safetensors cannot hold {name!r} of {tensor.dtype}; rename or convert it"
            )
    return {name: stored_size(name, tensor) for name, tensor in tensors.items()}


def _filled(sizes: Mapping[str, int], shard_bytes: int | None) -> list[list[str]]:
    """The names in their order; a file is full when the next tensor would exceed `shard_bytes`."""
    if shard_bytes is not None and shard_bytes < 1:
        raise UserError(f"expected shard_bytes of at least 1, got {shard_bytes}")
    groups: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        if shard_bytes is not None and groups[-1] and held + size > shard_bytes:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups


def _shard_names(stem: str, groups: list[list[str]]) -> dict[str, list[str]]:
    if len(groups) == 1:
        return {f"{stem}.safetensors": groups[0]}
    return {
        f"{stem}-{number:05}-of-{len(groups):05}.safetensors": names for number, names in enumerate(groups, 1)
    }


def _index_json(sizes: Mapping[str, int], shards: Mapping[str, list[str]]) -> str:
    weight_map = {name: file for file, names in shards.items() for name in names}
    values = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
    return json.dumps(values, ensure_ascii=False, indent=2) + "\n"


def _older(folder: Path, stem: str, written: set[str]) -> list[str]:
    pattern = re.compile(re.escape(stem) + r"(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
    found = folder.iterdir() if folder.is_dir() else ()
    return [file.name for file in found if pattern.fullmatch(file.name) and file.name not in written]


def _write_file(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """The wider types come first, so that every tensor is aligned to its own."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {_METADATA: {"format": "pt"}}
    reached = 0
    for name in order:
        tensor, begin = tensors[name], reached
        reached += stored_size(name, tensor)
        offsets = [begin, reached]
        header[name] = {"dtype": _WORDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
    content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    content += b" " * (-len(content) % _LENGTH_BYTES)
    with open(path, "wb") as file:
        file.write(len(content).to_bytes(_LENGTH_BYTES, "little") + content)
        for name in order:
            file.write(content_of(tensors[name]))
