"""TensorFlow checkpoints of version 2, written so that TensorFlow and bert4keras read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.atomic import writing_together
from hanformer.weights.bundle import data_path
from hanformer.weights.bundle_records import HEADER_KEY, NUMBERS, PART_MARK, Entry, Header
from hanformer.weights.crc32c import masked_crc32c
from hanformer.weights.streams import check_name, content_of, grouped, stored_size
from hanformer.weights.table import table_bytes

CHECKPOINT_FILE = "checkpoint"


def write_bundle(prefix: str | Path, tensors: Mapping[str, Tensor], *, shards: int = 1) -> None:
    """Writes PREFIX.index, PREFIX.data-00000-of-00001 (or more) and the text file `checkpoint` that names them.

    写出 TensorFlow V2 检查点（索引、数据分片与 checkpoint 文件），同时生效。

    One tensor is held at a time; the files take their names together. Data files of an older writing with another
    number of shards disappear. Raises UserError for names and dtypes that a bundle cannot hold, for a number of
    shards out of range, and where the folder cannot be written.
    """
    path = Path(prefix)
    if not 1 <= shards < 100_000:
        raise UserError(f"expected 1 to 99999 shards, got {shards}")
    _check(path, tensors)
    data_names = [data_path(path, shard, shards).name for shard in range(shards)]
    names = [*data_names, f"{path.name}.index", CHECKPOINT_FILE]
    with writing_together(path.parent, names, _older(path, data_names)) as place:
        entries = _write_data(place, data_names, tensors)
        place(f"{path.name}.index").write_bytes(table_bytes(sorted(entries.items())))
        place(CHECKPOINT_FILE).write_text(_checkpoint_text(path.name), encoding="ascii")


def _check(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        check_name(str(path), name)
        if not name or name.encode().startswith(PART_MARK):
            raise UserError(f"{path}: expected names of at least one letter, got {name!r}")
        if tensor.dtype not in NUMBERS:
            raise UserError(
                f"{path}: TensorFlow has no counterpart of {tensor.dtype}, the dtype of {name!r}; convert it first"
            )
        stored_size(name, tensor)


def _older(path: Path, data_names: list[str]) -> list[str]:
    pattern = re.compile(re.escape(path.name) + r"\.data-\d{5}-of-\d{5}")
    found = path.parent.iterdir() if path.parent.is_dir() else ()
    return [file.name for file in found if pattern.fullmatch(file.name) and file.name not in data_names]


def _write_data(
    place: Callable[[str], Path], data_names: list[str], tensors: Mapping[str, Tensor]
) -> dict[bytes, bytes]:
    sizes = {name: stored_size(name, tensors[name]) for name in sorted(tensors)}
    entries = {HEADER_KEY: Header(len(data_names)).encoded()}
    for shard, names in enumerate(grouped(sizes, len(data_names))):
        with open(place(data_names[shard]), "wb") as file:
            for name in names:
                entries[name.encode()] = _write_tensor(file, shard, tensors[name]).encoded()
    return entries


def _write_tensor(file: BinaryIO, shard: int, tensor: Tensor) -> Entry:
    content = content_of(tensor)
    offset = file.tell()
    file.write(content)
    kind = NUMBERS[tensor.dtype]
    return Entry(kind, tuple(tensor.shape), shard, offset, len(content), masked_crc32c(content))


def _checkpoint_text(name: str) -> str:
    quoted = "".join(chr(byte) if _is_plain(byte) else f"\\{byte:03o}" for byte in name.encode())
    return f'model_checkpoint_path: "{quoted}"\nall_model_checkpoint_paths: "{quoted}"\n'


def _is_plain(byte: int) -> bool:
    return 0x20 <= byte < 0x7F and byte not in b'"\\'


def named_checkpoint(text: str) -> str | None:
    """The prefix that a `checkpoint` file names, None where it names none. 解析 checkpoint 文件。"""
    found = re.search(r'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\\n]|\\.)*)"', text, re.MULTILINE)
    if found is None:
        return None
    return re.sub(rb"\\([0-7]{1,3}|.)", _unescaped, found[1].encode()).decode(errors="replace")


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code, 8) & 0xFF]) if code.isdigit() and int(code[:1]) < 8 else code
