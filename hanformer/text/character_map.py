"""The compiled character map of a SentencePiece model, unfolded by characters with bounds.

把 SentencePiece 的字符映射表（双数组字典树）安全地按字符展开。

Layout: the size of the trie (uint32), its units (uint32 each), then replacements, each ended by a zero byte.
A unit holds a label (its lowest byte; units whose highest bit is set hold a value instead), whether a key
ends here (bit 8), and the offset to its children (bits 10 to 30, shifted by 8 if bit 9 is set). The child
over byte b of a unit at place p is at ``p ^ offset ^ b``, if the label there is b; the value, at b = 0.

Source: the double array of the Darts-clone library; `normalizer.cc` of the sentencepiece library.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np

from hanformer.errors import UserError

_LONGEST_KEY: Final = 64
_MOST_VISITS: Final = 1 << 21
_LENGTHS: Final = (1,) * 24 + (2,) * 4 + (3,) * 2 + (4, 1)  # of a character, by five bits of its first byte

_Node = dict[str, tuple[str | None, int]]
"""For each character that can come next: what the key so far becomes, if it is one, and the next node."""


class CharacterMap:
    """What characters, and runs of them, become; the longest key wins. No blob is no rule. 字符映射。

    Raises: UserError naming `origin`, where the trie is cut off, points outside itself or never ends.
    """

    def __init__(self, blob: bytes, origin: str = "SentencePiece model") -> None:
        self._nodes, self._root = _unfolded(blob, origin)

    def longest(self, text: str, place: int) -> tuple[int, str] | None:
        """(end, replacement) of the longest key that begins at `place`, or None. 最长匹配。"""
        base, found = self._root, None
        for end in range(place + 1, min(len(text), place + _LONGEST_KEY) + 1):
            become, base = self._nodes[base].get(text[end - 1], (None, -1))
            if become is not None:
                found = end, become
            if base not in self._nodes:
                break
        return found

    def alone(self) -> set[str]:
        """The characters that are keys. 本身即为键的字符。"""
        return {character for character, (become, _) in self._nodes[self._root].items() if become is not None}

    def settled(self) -> dict[str, str]:
        """What a character becomes that is a key and begins no longer one. 无需再看后文的单字符替换。"""
        return {
            character: become
            for character, (become, base) in self._nodes[self._root].items()
            if become is not None and base not in self._nodes
        }

    def openings(self) -> tuple[set[str], set[str]]:
        """The first, and the second, characters of longer keys. 较长键的首字符与次字符。"""
        longer = {character: base for character, (_, base) in self._nodes[self._root].items() if base >= 0}
        return set(longer), {second for base in set(longer.values()) for second in self._nodes[base]}


@lru_cache(maxsize=4)
def _unfolded(blob: bytes, origin: str) -> tuple[dict[int, _Node], int]:
    """The trie by characters, and its root; models share few maps, so these are kept."""
    if not blob:
        return {0: {}}, 0
    try:
        units, texts = _parts(blob)
        unfolding = _Unfolding(units, texts)
        return unfolding.all_from(root := _base(0, int(units[0]))), root
    except (ValueError, struct.error) as error:
        raise UserError(f"{origin}: its character map is damaged ({error}); fetch the file again") from None


def _parts(blob: bytes) -> tuple[np.ndarray, bytes]:
    (size,) = struct.unpack_from("<I", blob)
    if size % 4 or not 0 < size <= len(blob) - 4:
        raise ValueError(f"a trie of {size} bytes in {len(blob)}")
    return np.frombuffer(blob, "<u4", size // 4, 4).astype(np.int64), blob[4 + size :]


class _Unfolding:
    """Reads the trie, which shares equal ends of keys; each node by characters is made once."""

    def __init__(self, units: np.ndarray, texts: bytes) -> None:
        self.units: list[int] = units.tolist()
        self.texts = texts
        self.children = _children(units)
        self.visits = 0

    def all_from(self, root: int) -> dict[int, _Node]:
        nodes: dict[int, _Node] = {}
        waiting = [root]
        while waiting:
            base = waiting.pop()
            if base not in nodes:
                nodes[base] = self.node(base)
                waiting += [below for _, below in nodes[base].values() if below >= 0]
        return nodes

    def node(self, base: int) -> _Node:
        """The complete characters below a base."""
        found: _Node = {}
        waiting = [(base, b"")]
        while waiting:
            base, begun = waiting.pop()
            for place in self.children.get(base, ()):
                self.visits += 1
                if self.visits > _MOST_VISITS:
                    raise ValueError("it has no end")
                unit = self.units[place]
                below, read = _base(place, unit), begun + bytes((unit & 0xFF,))
                if len(read) < _LENGTHS[read[0] >> 3]:
                    waiting.append((below, read))
                    continue
                become = self.text(below) if unit >> 8 & 1 else None
                found[read.decode("utf-8")] = become, below if below in self.children else -1
        return found

    def text(self, place: int) -> str:
        """The replacement that the value at a unit points to."""
        if place >= len(self.units):
            raise ValueError(f"a value at unit {place} of {len(self.units)}")
        start = self.units[place] & 0x7FFF_FFFF
        end = self.texts.find(b"\0", start)
        if end < 0:
            raise ValueError(f"a replacement at {start} of {len(self.texts)} bytes does not end")
        return self.texts[start:end].decode("utf-8")


def _base(place: int, unit: int) -> int:
    return place ^ ((unit >> 10) << ((unit & 0x200) >> 6))


def _children(units: np.ndarray) -> dict[int, list[int]]:
    """Places of the units with a label, by the base that their label makes them children of."""
    places = np.arange(len(units))
    labelled = (units >> 31 == 0) & (units & 0xFF != 0)
    bases = (places ^ (units & 0xFF))[labelled]
    order = np.argsort(bases, kind="stable")
    bases, places = bases[order], places[labelled][order]
    cuts = [0, *(np.flatnonzero(np.diff(bases)) + 1).tolist(), len(bases)]
    found = places.tolist()
    return {int(bases[first]): found[first:last] for first, last in pairwise(cuts) if first < last}
