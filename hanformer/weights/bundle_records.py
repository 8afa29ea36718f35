"""What the index of a TensorFlow bundle says of each tensor, as a record and as bytes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hanformer.weights.checks import Malformed
from hanformer.weights.protobuf import (
    BYTES,
    FIXED32,
    VARINT,
    Buffer,
    bytes_field,
    fields,
    fixed32_field,
    number_field,
    signed,
    varint,
)

HEADER_KEY = b""
#: Keys that begin with this byte name parts of partitioned variables.
PART_MARK = b"\0"
WHOLE = -1
_NEWEST = 1

#: Number of a dtype in types.proto -> ours.
DTYPES = {
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    4: torch.uint8,
    5: torch.int16,
    6: torch.int8,
    8: torch.complex64,
    9: torch.int64,
    10: torch.bool,
    14: torch.bfloat16,
    17: torch.uint16,
    18: torch.complex128,
    19: torch.float16,
    22: torch.uint32,
    23: torch.uint64,
    24: torch.float8_e5m2,
    25: torch.float8_e4m3fn,
}
NUMBERS = {dtype: number for number, dtype in DTYPES.items()}
_OTHER_KINDS = {7: "string", 20: "resource", 21: "variant"}

Extent = tuple[int, int]
"""Start and length along one dimension; length WHOLE says all of it. 某一维的起点与长度。"""


@dataclass(frozen=True)
class Header:
    """The entry of the empty key: over how many files the tensors are spread.

    索引头：数据分成多少个文件。
    """

    shards: int

    def encoded(self) -> bytes:
        """As it is stored: little-endian, of version 1."""
        return number_field(1, self.shards) + bytes_field(3, number_field(1, _NEWEST))


@dataclass(frozen=True)
class Entry:
    """Where a tensor stands and what it is; `parts` are the pieces of a partitioned variable.

    张量的类型、形状与位置；分区变量由若干部分组成。
    """

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    parts: tuple[tuple[Extent, ...], ...] = ()

    @property
    def dtype(self) -> torch.dtype | None:
        """None for what holds no numbers, such as strings."""
        return DTYPES.get(self.kind)

    @property
    def kind_name(self) -> str:
        """For messages."""
        return _OTHER_KINDS.get(self.kind, f"type {self.kind} of types.proto")

    def encoded(self) -> bytes:
        """As it is stored (BundleEntryProto)."""
        dimensions = b"".join(bytes_field(2, number_field(1, length)) for length in self.shape)
        return b"".join(
            (
                number_field(1, self.kind),
                bytes_field(2, dimensions),
                number_field(3, self.shard),
                number_field(4, self.offset),
                number_field(5, self.size),
                fixed32_field(6, self.checksum),
                *(bytes_field(7, _encoded_part(part)) for part in self.parts),
            )
        )


def read_header(message: bytes) -> Header:
    """The header of a bundle.

    读取索引头。

    Raises Malformed where it is none, of another byte order, or for newer readers only.
    """
    shards = order = needed = 0
    for number, kind, value, content in fields(message):
        if number == 1:
            _expect(kind, VARINT, "number of shards")
            shards = value
        elif number == 2:
            order = value
        elif number == 3:
            _expect(kind, BYTES, "version")
            needed = next((value for number, _, value, _ in fields(content) if number == 2), 0)
    if order:
        raise Malformed("expected little-endian tensors, got big-endian ones")
    if needed > _NEWEST:
        raise Malformed(f"it asks for a reader of version {needed}, this one is of version {_NEWEST}")
    if not 0 < shards < 100_000:
        raise Malformed(f"expected 1 to 99999 data files, got {shards}")
    return Header(shards)


def is_version_1(message: bytes) -> bool:
    """Whether the entry of the empty key is that of a version 1 checkpoint (SavedTensorSlices)."""
    return message[:1] == bytes([1 << 3 | BYTES])


def read_entry(message: bytes) -> Entry:
    """What the index says of one tensor.

    读取一个张量的索引项。

    Raises Malformed where it cannot be understood.
    """
    numbers = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: tuple[int, ...] = ()
    checksum = 0
    parts = []
    for number, kind, value, content in fields(message):
        if number in numbers:
            _expect(kind, VARINT, f"field {number}")
            numbers[number] = signed(value)
        elif number == 2:
            _expect(kind, BYTES, "shape")
            shape = _read_shape(content)
        elif number == 6:
            _expect(kind, FIXED32, "checksum")
            checksum = value
        elif number == 7:
            _expect(kind, BYTES, "slices")
            parts.append(_read_part(content))
    return Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], checksum, tuple(parts))


def _expect(kind: int, expected: int, what: str) -> None:
    if kind != expected:
        raise Malformed(f"its {what} is stored as kind {kind} instead of {expected}")


def _read_shape(message: Buffer) -> tuple[int, ...]:
    lengths = []
    for number, kind, value, content in fields(message):
        if number == 2:
            _expect(kind, BYTES, "dimension")
            lengths.append(_number(content, 1, 0))
        elif number == 3 and value:
            raise Malformed("its shape is unknown")
    return tuple(lengths)


def _read_part(message: Buffer) -> tuple[Extent, ...]:
    extents = []
    for number, kind, _, content in fields(message):
        if number == 1:
            _expect(kind, BYTES, "slice")
            extents.append((_number(content, 1, 0), _number(content, 2, WHOLE)))
    return tuple(extents)


def _number(message: Buffer, wanted: int, default: int) -> int:
    found = default
    for number, kind, value, _ in fields(message):
        if number == wanted:
            _expect(kind, VARINT, f"field {wanted}")
            found = signed(value)
    return found


def _encoded_part(part: tuple[Extent, ...]) -> bytes:
    extents = []
    for start, length in part:
        # The length 0 is stored: leaving it out would say "all".
        stored = b"" if length == WHOLE else varint(2 << 3 | VARINT) + varint(length)
        extents.append(bytes_field(1, number_field(1, start) + stored))
    return b"".join(extents)


def part_key(name: bytes, part: tuple[Extent, ...]) -> bytes:
    """The key under which a part of a partitioned variable has an entry of its own.

    分区变量某一部分的键。

    Numbers are written so that their bytes sort as they do (OrderedCode of TensorFlow): 0, the name with its ends
    escaped, the number of dimensions, then start and length of each.
    """
    numbers = b"".join(_ordered(number) for extent in part for number in extent)
    return PART_MARK + _escaped(name) + b"\0\1" + _ordered_unsigned(len(part)) + numbers


def _escaped(name: bytes) -> bytes:
    return b"".join({0: b"\0\xff", 0xFF: b"\xff\0"}.get(byte, bytes([byte])) for byte in name)


def _ordered_unsigned(value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(content)]) + content


def _ordered(value: int) -> bytes:
    """The sign, then as many ones as bytes follow the first, turned over for negative numbers."""
    length = (value if value >= 0 else ~value).bit_length() // 7 + 1
    mark = ((1 << length) - 1) << 7 * length
    return ((value ^ mark) & ((1 << 8 * length) - 1)).to_bytes(length, "big")
