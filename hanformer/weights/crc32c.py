"""CRC-32C (Castagnoli) of long buffers with NumPy alone, at the speed of memory.

A message is a polynomial over GF(2), and its checksum is a remainder modulo P. Two facts make it fast. P divides
Q = x^6777 + x^484 + x^100 + 1, so it also divides Q^64 = x^(64*6777) + x^(64*484) + x^(64*100) + 1: a word of 64
bits may be struck out by adding it to three later words, and thousands of words at once by adding arrays. What is
left is halved: its first half times x^(32n) is added to the second half of n words, by tables.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8
#: Distances, in words, from a struck word to those that take it up: 6777 minus the exponents of Q.
_NEAR, _MIDDLE, _FAR = 6777 - 484, 6777 - 100, 6777

Words = NDArray[np.uint32]
Tables = NDArray[np.uint32]


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The CRC-32C of a buffer.

    缓冲区的 CRC-32C 校验值。

    Source: RFC 3720, appendix B.4.
    """
    content = np.frombuffer(data, np.uint8)
    whole = len(content) // 8 * 8
    remainder = _remainder(_struck(content[:whole].view(np.uint64))) if whole else _ONES
    single = _tables(0)[3]
    for byte in content[whole:].tolist():
        remainder = int(single[(remainder ^ byte) & 0xFF]) ^ remainder >> 8
    return remainder ^ _ONES


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """The CRC-32C as TensorFlow and LevelDB store it: rotated right by 15, plus a constant, modulo 2^32.

    TensorFlow 所存的掩码校验值。
    """
    value = crc32c(data)
    return ((value >> 15 | value << 17) + _MASK_DELTA) & _ONES


def _struck(words: NDArray[np.uint64]) -> Words:
    """A shorter message with the same remainder; the initial value of the register is added."""
    pending = np.zeros(_FAR, np.uint64)
    pending[0] = _ONES
    start = 0
    while len(words) - start >= _NEAR + _FAR:
        block = words[start : start + _NEAR] ^ pending[:_NEAR]
        following = np.zeros(_FAR, np.uint64)
        following[: _FAR - _NEAR] = pending[_NEAR:]
        following[:_NEAR] ^= block
        following[_MIDDLE - _NEAR : _MIDDLE] ^= block
        following[_FAR - _NEAR :] ^= block
        pending = following
        start += _NEAR
    rest = words[start:].copy()
    length = min(len(rest), _FAR)
    rest[:length] ^= pending[:length]
    return rest.view(np.uint32)


def _remainder(words: Words) -> int:
    levels = (len(words) - 1).bit_length()
    # Zeros before a message do not change its remainder.
    folded = np.zeros(1 << levels, np.uint32)
    folded[len(folded) - len(words) :] = words
    for level in reversed(range(levels)):
        half = 1 << level
        folded = _times(folded[:half], _tables(level)) ^ folded[half:]
    return int(_times(folded, _tables(0))[0])


def _times(words: Words, tables: Tables) -> Words:
    """Every word times the power of x that the tables are for, byte by byte."""
    parts = words.view(np.uint8).reshape(-1, 4)
    product: Words = tables[0][parts[:, 0]]
    for index in (1, 2, 3):
        product ^= tables[index][parts[:, index]]
    return product


@cache
def _tables(level: int) -> Tables:
    """Products of each byte, at each of 4 places of a word, with x^(32 * 2^level) [4, 256]."""
    images = _images(level)
    tables = np.zeros((4, 256), np.uint32)
    numbers = np.arange(256)
    for bit in range(32):
        tables[bit // 8] ^= np.where(numbers >> bit % 8 & 1, images[bit], np.uint32(0))
    return tables


def _images(level: int) -> Words:
    """Products of each single bit with x^(32 * 2^level); squaring a power doubles it."""
    if level:
        return _times(_images(level - 1), _tables(level - 1))
    one = np.uint32(1)
    images: Words = one << np.arange(32, dtype=np.uint32)
    for _ in range(32):
        images = (images >> one) ^ (images & one) * np.uint32(_POLYNOMIAL)
    return images
