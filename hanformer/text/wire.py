"""The wire format of protocol buffers, as far as tokenizer files need it: a bounded reader, and a writer.

protobuf 编码的最小读写器：只认四种线类型，越界即报错，不执行文件中的任何内容。

Source: the encoding page of the Protocol Buffers documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_LONGEST_VARINT: Final = 10


class WireError(ValueError):
    """The bytes are no message; says at which of them. 字节流不是合法的消息。"""


def fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field, wire type, start, end) of every value of a message, in the order of the bytes.

    逐个给出字段的编号、线类型与取值的字节范围。

    Raises: WireError where a value goes beyond the message, or its type or number is none.
    """
    place, length = 0, len(message)
    while place < length:
        at = place
        key, place = varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == BYTES:
            size, place = varint(message, place)
            end = place + size
        elif kind == VARINT:
            end = varint(message, place)[1]
        elif kind in (FIXED32, FIXED64):
            end = place + (4 if kind == FIXED32 else 8)
        else:
            raise WireError(f"byte {at}: wire type {kind} is none that is in use")
        if end > length or number == 0:
            raise WireError(f"byte {at}: field {number} ends at {end} of {length} bytes")
        yield number, kind, place, end
        place = end


def varint(message: bytes, place: int) -> tuple[int, int]:
    """The number at a place, and the place after it. Raises: WireError where it does not end. 读变长整数。"""
    value = 0
    for count in range(_LONGEST_VARINT):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place
    raise WireError(f"byte {place}: a number does not end")


def single(message: bytes, start: int) -> float:
    """The float32 at a place. 读单精度数。"""
    return float(struct.unpack_from("<f", message, start)[0])


def integer(number: int, value: int) -> bytes:
    """A field that holds a whole number. 写整数字段。"""
    return _varint(number << 3 | VARINT) + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def real(number: int, value: float) -> bytes:
    """A field that holds a float32. 写单精度字段。"""
    return _varint(number << 3 | FIXED32) + struct.pack("<f", value)


def sized(number: int, value: bytes) -> bytes:
    """A field that holds bytes, text or a message. 写字节、文本或子消息字段。"""
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
