"""Snappy: blocks that old TensorFlow versions packed are unpacked here.

解压 snappy 数据块。
"""

from __future__ import annotations

from hanformer.weights.checks import Malformed
from hanformer.weights.protobuf import read_varint

#: No element of 2 or 3 bytes gives more than 64, so what claims to grow more than this is a lie.
_GREATEST_GROWTH = 64
_LARGEST = 1 << 26


def unpack(data: bytes) -> bytes:
    """The content of a snappy block.

    解压一个 snappy 数据块。

    Raises Malformed where it is damaged, or where it claims more than it can hold or than 64 MiB.
    Source: google/snappy, format_description.txt.
    """
    length, position = read_varint(data, 0)
    if length > min(_LARGEST, _GREATEST_GROWTH * len(data)):
        raise Malformed(f"a snappy block of {len(data)} bytes claims to hold {length}")
    out = bytearray()
    while position < len(data):
        tag = data[position]
        element = _copy if tag & 3 else _literal
        position = element(data, position, out)
        if len(out) > length:
            raise Malformed(f"a snappy block holds more than the {length} bytes it claims")
    if len(out) != length:
        raise Malformed(f"a snappy block holds {len(out)} bytes, not the {length} it claims")
    return bytes(out)


def _literal(data: bytes, position: int, out: bytearray) -> int:
    """Appends bytes that stand in the block as they are."""
    length, position = data[position] >> 2, position + 1
    if length >= 60:
        width = length - 59
        length, position = int.from_bytes(_take(data, position, width), "little"), position + width
    out += _take(data, position, length + 1)
    return position + length + 1


def _copy(data: bytes, position: int, out: bytearray) -> int:
    """Appends bytes that stood further back in what was unpacked; they may overlap what they append."""
    tag = data[position]
    width = (0, 1, 2, 4)[tag & 3]
    distance = int.from_bytes(_take(data, position + 1, width), "little")
    length = (tag >> 2) + 1
    if width == 1:
        distance, length = distance | tag >> 5 << 8, (tag >> 2 & 7) + 4
    if not 0 < distance <= len(out):
        raise Malformed(f"a snappy block copies from {distance} bytes back, where {len(out)} are unpacked")
    pattern = out[len(out) - distance :][:length]
    out += (pattern * (length // len(pattern) + 1))[:length]
    return position + 1 + width


def _take(data: bytes, position: int, length: int) -> bytes:
    if position + length > len(data):
        raise Malformed("a snappy block ends within an element")
    return data[position : position + length]
