"""Sorted tables of keys and values, in the layout of LevelDB: what the index of a TensorFlow bundle is.

A table is a row of blocks; behind each one stand a byte that names its packing and a masked CRC-32C of 4 bytes. The
last 48 bytes say where the index block stands, whose values say where the data blocks stand.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hanformer.errors import UserError
from hanformer.weights import snappy
from hanformer.weights.checks import Malformed, damage_in
from hanformer.weights.crc32c import masked_crc32c
from hanformer.weights.mapping import MappedFile
from hanformer.weights.protobuf import Buffer, read_varint, varint

_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER, _TRAILER = 48, 5
_PLAIN, _SNAPPY = 0, 1
#: A short key may share a long prefix, so a small file could ask for any amount of memory.
_MOST_KEY_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 18
_RESTART_EVERY = 16


@dataclass(frozen=True)
class Handle:
    """Where a block stands in its file, in bytes, without what stands behind it.

    数据块在文件中的位置。
    """

    offset: int
    size: int

    def encoded(self) -> bytes:
        """As it is stored."""
        return varint(self.offset) + varint(self.size)


def is_table(path: str | Path) -> bool:
    """Whether a file ends as a table does. 文件是否以表的标记结尾。"""
    try:
        with open(path, "rb") as file:
            file.seek(-len(_MAGIC), os.SEEK_END)
            return file.read() == _MAGIC
    except OSError:
        return False


def read_table(path: str | Path, *, checksums: bool = True) -> dict[bytes, bytes]:
    """All entries of a table, in the order of their keys.

    读出表中全部键值，按键排序。

    Raises UserError, with the offset, where the file is no table, is damaged, or (with `checksums`) differs from
    what was written.
    """
    file = MappedFile(path)
    with damage_in(str(path)):
        index = _index_handle(file)
    entries: dict[bytes, bytes] = {}
    end = key_bytes = 0
    last = None
    for _, value in _block_entries(file, index, checksums):
        with damage_in(f"{path}: index block at byte {index.offset}"):
            handle, _ = _read_handle(value, 0)
            if handle.offset < end:
                raise Malformed(
                    f"the block at byte {handle.offset} begins before byte {end}, in another block"
                )
        end = handle.offset + handle.size + _TRAILER
        for key, content in _block_entries(file, handle, checksums):
            key_bytes += len(key)
            with damage_in(f"{path}: block at byte {handle.offset}"):
                _check_key(key, last, key_bytes)
            entries[key], last = content, key
    return entries


def _check_key(key: bytes, last: bytes | None, key_bytes: int) -> None:
    if last is not None and key <= last:
        raise Malformed(f"key {key[:80]!r} does not sort after {last[:80]!r}")
    if key_bytes > _MOST_KEY_BYTES:
        raise Malformed(f"the keys take more than {_MOST_KEY_BYTES} bytes")


def _index_handle(file: MappedFile) -> Handle:
    if file.size < _FOOTER:
        raise Malformed(f"expected a table with a footer of {_FOOTER} bytes, the file has {file.size}")
    footer = file.part(file.size - _FOOTER, _FOOTER)
    magic = bytes(footer[-len(_MAGIC) :])
    if magic != _MAGIC:
        raise Malformed(f"expected a table that ends with {_MAGIC.hex()}, got {magic.hex()}")
    _, position = _read_handle(footer, 0)
    handle, _ = _read_handle(footer, position)
    return handle


def _read_handle(data: Buffer, position: int) -> tuple[Handle, int]:
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return Handle(offset, size), position


def _block_entries(file: MappedFile, handle: Handle, checksums: bool) -> Iterator[tuple[bytes, bytes]]:
    with damage_in(f"{file.path}: block at byte {handle.offset}"):
        yield from _entries(_block(file, handle, checksums))


def _block(file: MappedFile, handle: Handle, checksums: bool) -> bytes:
    whole = bytes(file.part(handle.offset, handle.size + _TRAILER))
    if handle.offset + len(whole) > file.size - _FOOTER:
        raise Malformed(f"its {handle.size} bytes reach into the footer")
    content, packing = whole[: handle.size], whole[handle.size]
    if checksums and masked_crc32c(whole[:-4]) != int.from_bytes(whole[-4:], "little"):
        raise Malformed("its bytes are not those that were written (CRC-32C differs)")
    if packing == _SNAPPY:
        return snappy.unpack(content)
    if packing != _PLAIN:
        raise Malformed(f"expected packing 0 (none) or 1 (snappy), got {packing}")
    return content


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each key is stored as the length it shares with the one before, and the rest."""
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if len(block) < 4 or end < 0:
        raise Malformed(f"{len(block)} bytes do not hold the restart points that they count")
    key, position = b"", 0
    while position < end:
        shared, position = read_varint(block, position)
        own, position = read_varint(block, position)
        length, position = read_varint(block, position)
        if shared > len(key) or position + own + length > end:
            raise Malformed(f"the entry before byte {position} of the block does not fit")
        key = key[:shared] + block[position : position + own]
        position += own + length
        yield key, block[position - length : position]


def table_bytes(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of these entries, not packed, byte for byte as TensorFlow writes it.

    把键值写成表（不压缩），与 TensorFlow 逐字节相同。

    The keys must come sorted. Raises UserError where they do not, or where one comes twice.
    """
    out = bytearray()
    index = _Block(restart_every=1)
    block = _Block(_RESTART_EVERY)
    last: bytes | None = None
    for key, value in entries:
        if last is not None and key <= last:
            raise UserError(f"expected sorted names, each once; got {key!r} after {last!r}")
        if last is not None and block.size >= _BLOCK_BYTES:
            index.add(_between(last, key), _append(out, block).encoded())
            block = _Block(_RESTART_EVERY)
        block.add(key, value)
        last = key
    if last is not None:
        index.add(_after(last), _append(out, block).encoded())
    middle = _append(out, _Block(_RESTART_EVERY)).encoded()
    footer = middle + _append(out, index).encoded()
    return bytes(out) + footer.ljust(_FOOTER - len(_MAGIC), b"\0") + _MAGIC


class _Block:
    """A block in the making: entries, and the points from which keys can be read without those before."""

    def __init__(self, restart_every: int) -> None:
        self._restart_every = restart_every
        self._out = bytearray()
        self._restarts = [0]
        self._since_restart = 0
        self._last = b""

    @property
    def size(self) -> int:
        return len(self._out) + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        if self._since_restart == self._restart_every:
            self._restarts.append(len(self._out))
            self._since_restart = 0
        shared = _common(self._last, key) if self._since_restart else 0
        self._out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        self._last = key
        self._since_restart += 1

    def finished(self) -> bytes:
        points = [*self._restarts, len(self._restarts)]
        return bytes(self._out) + b"".join(point.to_bytes(4, "little") for point in points)


def _append(out: bytearray, block: _Block) -> Handle:
    content = block.finished()
    handle = Handle(len(out), len(content))
    packed = content + bytes([_PLAIN])
    out += packed + masked_crc32c(packed).to_bytes(4, "little")
    return handle


def _common(first: bytes, second: bytes) -> int:
    """How many bytes two keys begin with alike."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(first), len(second)))


def _between(last: bytes, following: bytes) -> bytes:
    """A short key that is not below `last`, and below `following`."""
    same = _common(last, following)
    if same < min(len(last), len(following)) and last[same] + 1 < following[same]:
        return last[:same] + bytes([last[same] + 1])
    return last


def _after(last: bytes) -> bytes:
    """A short key that is not below `last`."""
    for place, byte in enumerate(last):
        if byte != 0xFF:
            return last[:place] + bytes([byte + 1])
    return last
