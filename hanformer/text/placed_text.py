"""A text made from another one, with the place of every character in the original.

带位置的文本：每个字符都记得它来自原文的哪一段。
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, count
from operator import eq
from typing import Final

_SURROGATES: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class PlacedText:
    """Character i stands for ``original[starts[i]:ends[i]]``, which is empty where it was put in.

    字符 i 对应原文的 [starts[i], ends[i])；插入的字符对应空区间。
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Where ``text[first:last]`` stands in the original, without what was put in at its borders.

        片段在原文中的区间。
        """
        starts, ends = self.starts, self.ends
        while last - first > 1 and starts[first] == ends[first]:
            first += 1
        while last - first > 1 and starts[last - 1] == ends[last - 1]:
            last -= 1
        return starts[first], ends[last - 1]

    def spans(self, lengths: Iterable[int]) -> list[tuple[int, int]]:
        """The spans of neighbouring parts of these lengths, none of them empty. 连续各段的区间。"""
        borders = list(accumulate(lengths, initial=0))
        starts, ends = self.starts, self.ends
        first = [starts[border] for border in borders[:-1]]
        last = [ends[border - 1] for border in borders[1:]]
        found = list(zip(first, last, strict=True))
        for place in compress(count(), map(eq, starts, ends)):
            part = bisect_right(borders, place) - 1
            found[part] = self.span(borders[part], borders[part + 1])
        return found

    def through(self, other: PlacedText) -> PlacedText:
        """Places in the text that `other` was made from, where this was made from ``other.text``.

        两步变换的合成。
        """
        starts, ends = [], []
        for start, end in zip(self.starts, self.ends, strict=True):
            first, last = other.span(start, end) if start < end else other._point(start)
            starts.append(first)
            ends.append(last)
        return PlacedText(self.text, starts, ends)

    def _point(self, place: int) -> tuple[int, int]:
        """Where something that was put in before a character stands: just before it, or at the end."""
        if place < len(self.text):
            return self.starts[place], self.starts[place]
        end = self.ends[-1] if self.text else 0
        return end, end


def as_it_is(text: str) -> PlacedText:
    """The text itself. 原样。"""
    return PlacedText(text, range(len(text)), range(1, len(text) + 1))


def readable(text: str) -> str:
    """Lone surrogates, which UTF-8 cannot hold, as the replacement character; places stay the same.

    孤立的代理项换成替换字符，位置不变。
    """
    return _SURROGATES.sub("\ufffd", text)
