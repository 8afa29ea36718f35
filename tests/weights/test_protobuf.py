"""Numbers of variable length and messages: the way there and back, and what is cut off or too long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.weights.checks import Malformed
from hanformer.weights.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    bytes_field,
    fields,
    fixed32_field,
    number_field,
    read_varint,
    real,
    real_field,
    signed,
    stated_number_field,
    varint,
)


@settings(deadline=None, derandomize=True)
@given(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=3))
def test_there_and_back(value: int, before: bytes) -> None:
    written = varint(value)
    found, end = read_varint(before + written + b"\x80", len(before))
    assert signed(found) == value and end == len(before) + len(written)
    for cut in range(len(written)):
        with pytest.raises(Malformed, match="end within"):
            read_varint(written[:cut], 0)


def test_published_example() -> None:
    assert varint(300) == b"\xac\x02" and varint(0) == b"\0" and varint(-1) == b"\xff" * 9 + b"\x01"


@pytest.mark.parametrize("data", [b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01", b"\xff" * 1000])
def test_overflow(data: bytes) -> None:
    with pytest.raises(Malformed, match="64 bits"):
        read_varint(data, 0)


def test_fields_of_every_kind() -> None:
    message = number_field(1, 150) + bytes_field(2, b"ab") + fixed32_field(6, 7) + b"\x39" + bytes(range(8))
    assert [(number, kind, value) for number, kind, value, _ in fields(message)] == [
        (1, VARINT, 150),
        (2, BYTES, 0),
        (6, FIXED32, 7),
        (7, FIXED64, int.from_bytes(bytes(range(8)), "little")),
    ]
    assert number_field(1, 0) == fixed32_field(6, 0) == b""
    with pytest.raises(Malformed, match="unknown kind 3"):
        list(fields(b"\x0b"))
    with pytest.raises(Malformed, match="asks for 5 bytes, 1 are left"):
        list(fields(b"\x12\x05a"))


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**29 - 1), st.floats(width=32, allow_nan=False))
def test_stated_numbers_and_reals_come_back(value: int, number: int, real_value: float) -> None:
    """Zero is written too, which `number_field` leaves out."""
    message = stated_number_field(number, value) + real_field(number, real_value)
    (_, _, found, _), (_, kind, _, content) = fields(message)
    assert (found, kind, real(content)) == (value, FIXED32, real_value)
