"""CRC-32C: published values, and equality with the definition bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.weights.crc32c import crc32c, masked_crc32c


def by_definition(data: bytes) -> int:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_values_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected == by_definition(data)


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_short_buffers(data: bytes) -> None:
    assert crc32c(data) == by_definition(data)


#: Words are struck out from 8 * (6293 + 6777) = 104,560 bytes on, and once more from 154,904 on.
@pytest.mark.parametrize("size", [4096, 104_559, 104_560, 104_571, 154_903, 154_904, 300_007])
def test_long_buffers_and_views_at_odd_places(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == by_definition(data)
    assert crc32c(memoryview(data)[3:]) == by_definition(data[3:])


def test_every_flipped_bit_shows() -> None:
    data = bytearray(np.random.default_rng(1).bytes(200_000))
    expected = crc32c(data)
    for place in (0, 7, 8, 50_343, 50_344, 104_560, 199_999):
        data[place] ^= 1 << place % 8
        assert crc32c(data) != expected
        data[place] ^= 1 << place % 8
    assert crc32c(data) == expected


def test_mask() -> None:
    """The trailer of an empty block, as it stands in every table that TensorFlow wrote."""
    assert masked_crc32c(bytes(4) + b"\1\0\0\0" + b"\0") == 0xB0A1F2C0
