"""Numbers of variable length and Protocol Buffers messages, read and written by hand.

变长整数与 Protocol Buffers 消息的读写。
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hanformer.weights.checks import Malformed

Buffer = bytes | memoryview
#: Kinds of fields: how the value of a field is stored.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_LONGEST = 10
_ALL_ONES = (1 << 64) - 1


def read_varint(data: Buffer, position: int) -> tuple[int, int]:
    """The unsigned number at `position`, and the position behind it.

    读取无符号变长整数，返回数值与其后的位置。

    Raises Malformed where the data end within it, or it does not fit 64 bits.
    """
    value = 0
    for count in range(_LONGEST):
        if position + count >= len(data):
            raise Malformed(f"data end within the number at byte {position}")
        byte = data[position + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value > _ALL_ONES:
                break
            return value, position + count + 1
    raise Malformed(f"the number at byte {position} does not fit 64 bits")


def varint(value: int) -> bytes:
    """A number as read_varint reads it; a negative one as its two's complement of 64 bits. 写变长整数。"""
    value &= _ALL_ONES
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def signed(value: int) -> int:
    """The signed number whose two's complement of 64 bits this is. 还原有符号数。"""
    return value - (1 << 64) if value >> 63 else value


def fields(message: Buffer) -> Iterator[tuple[int, int, int, Buffer]]:
    """The fields of a message in their order: (number, kind, value of a number, value of BYTES).

    依次给出消息的各字段。

    Raises Malformed for a field that is cut off or of a kind that does not exist.
    """
    position = 0
    while position < len(message):
        tag, start = read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, position = read_varint(message, start)
            yield number, kind, value, b""
            continue
        if kind == BYTES:
            width, start = read_varint(message, start)
        elif kind in _WIDTHS:
            width = _WIDTHS[kind]
        else:
            raise Malformed(f"field {number} at byte {position} is of the unknown kind {kind}")
        position = start + width
        if position > len(message):
            raise Malformed(f"field {number} asks for {width} bytes, {len(message) - start} are left")
        content = message[start:position]
        yield number, kind, 0 if kind == BYTES else int.from_bytes(content, "little"), content


def number_field(number: int, value: int) -> bytes:
    """A field that holds a number; none at all for 0, which is what readers assume. 写数值字段（零省略）。"""
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def stated_number_field(number: int, value: int) -> bytes:
    """A field that holds a number, 0 too: where readers assume something else. 写数值字段（含零）。"""
    return varint(number << 3 | VARINT) + varint(value)


def real_field(number: int, value: float) -> bytes:
    """A field that holds a float32. 写单精度字段。"""
    return varint(number << 3 | FIXED32) + struct.pack("<f", value)


def real(content: Buffer) -> float:
    """The float32 of a field of 4 bytes. 读单精度数。"""
    return float(struct.unpack("<f", content)[0])


def bytes_field(number: int, content: bytes) -> bytes:
    """A field that holds bytes, such as a message within a message. 写字节字段。"""
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def fixed32_field(number: int, value: int) -> bytes:
    """A field of 4 bytes; none at all for 0. 写定长 32 位字段（零省略）。"""
    return varint(number << 3 | FIXED32) + value.to_bytes(4, "little") if value else b""
