"""Snappy: blocks made by hand and by a small packer; bombs and damage end in Malformed."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.weights.checks import Malformed
from hanformer.weights.protobuf import varint
from hanformer.weights.snappy import unpack


def pack(data: bytes) -> bytes:
    """A small packer: repeats within 2047 bytes become copies of 1, 2 or 4 bytes of distance, in turns."""
    out, literal, position, turn = bytearray(varint(len(data))), bytearray(), 0, 0

    def flush() -> None:
        for start in range(0, len(literal), 1000):
            piece = literal[start : start + 1000]
            length = len(piece) - 1
            if length < 60:
                out.append(length << 2)
            else:
                out.extend([61 << 2, length & 0xFF, length >> 8])
            out.extend(piece)
        literal.clear()

    while position < len(data):
        seen = data.rfind(data[position : position + 4], max(0, position - 2047), position + 3)
        length = 4
        if seen < 0 or position + 4 > len(data):
            literal.append(data[position])
            position += 1
            continue
        while (
            length < 11 and position + length < len(data) and data[seen + length] == data[position + length]
        ):
            length += 1
        flush()
        distance = position - seen
        if turn % 3 == 0:
            out.extend([(distance >> 8) << 5 | (length - 4) << 2 | 1, distance & 0xFF])
        else:
            width = (2, 4)[turn % 3 - 1]
            out.append((length - 1) << 2 | turn % 3 + 1)
            out.extend(distance.to_bytes(width, "little"))
        position, turn = position + length, turn + 1
    flush()
    return bytes(out)


@settings(deadline=None, derandomize=True)
@given(st.one_of(st.binary(max_size=400), st.text("ab", max_size=300).map(str.encode)))
def test_what_is_packed_is_unpacked(data: bytes) -> None:
    assert unpack(pack(data)) == data


def test_long_literals_and_overlapping_copies() -> None:
    data = bytes(range(256)) * 9
    assert unpack(pack(data)) == data
    assert unpack(varint(7) + b"\x00a" + bytes([(6 - 4) << 2 | 1, 1])) == b"aaaaaaa"
    assert unpack(varint(5) + b"\x04ab" + bytes([2 << 2 | 2, 2, 0])) == b"ababa"


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_end_in_a_block_or_in_malformed(data: bytes) -> None:
    with suppress(Malformed):
        unpack(data)


def test_every_beginning_of_a_block_is_malformed() -> None:
    packed = pack(b"abcabcabcabcabc" * 20)
    for end in range(len(packed)):
        with pytest.raises(Malformed):
            unpack(packed[:end])


@pytest.mark.parametrize("claimed", [1 << 40, (1 << 26) + 1, 65 * 7])
def test_a_bomb_is_refused_at_once(claimed: int) -> None:
    start = time.process_time()
    with pytest.raises(Malformed, match="claims to hold"):
        unpack(varint(claimed) + b"\x00a")
    assert time.process_time() - start < 0.1


def test_copies_from_before_the_beginning() -> None:
    for distance in (0, 2):
        with pytest.raises(Malformed, match="bytes back"):
            unpack(varint(5) + b"\x00a" + bytes([0 << 2 | 1, distance]))
