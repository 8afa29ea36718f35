"""An unlabelled tree: its words, and the spans of its brackets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hanformer.errors import UserError

Span: TypeAlias = tuple[int, int]
"""From a word up to, and not including, another. 左闭右开的词区间。"""


@dataclass(frozen=True)
class Brackets:
    """The words of a sentence, and the spans of at least two words that its tree brackets; the whole is one of them.

    一棵无标签的树：词与各括号覆盖的区间（至少两个词，含整句）。

    Raises UserError for spans that cross each other or leave the sentence.
    """

    words: tuple[str, ...]
    spans: frozenset[Span]

    def __post_init__(self) -> None:
        size = len(self.words)
        if not all(0 <= start < stop - 1 < size for start, stop in self.spans):
            raise UserError(f"expected spans of at least two of {size} words, got {sorted(self.spans)[:5]}")
        reached: list[Span] = []
        for start, stop in self.ordered():
            while reached and reached[-1][1] <= start:
                reached.pop()
            if reached and stop > reached[-1][1]:
                raise UserError(f"expected spans inside each other, got {reached[-1]} and {(start, stop)}")
            reached.append((start, stop))

    def ordered(self) -> list[Span]:
        """The spans from left to right, the wider before those that begin with them. 先左后右、先外后内。"""
        return sorted(self.spans, key=lambda span: (span[0], -span[1]))

    @property
    def is_binary(self) -> bool:
        """Whether every bracket holds two parts. 是否二叉。"""
        return len(self.spans) == max(0, len(self.words) - 1)

    def text(self) -> str:
        """The sentence with its brackets: ((the cat) sleeps). 带括号的文本。"""
        opens, closes = self._signs()
        parts = ("(" * opens[place] + word + ")" * closes[place] for place, word in enumerate(self.words))
        return " ".join(parts)

    def nested(self) -> list[Any]:
        """Lists inside lists: [["the", "cat"], "sleeps"]. 嵌套列表。"""
        opens, closes = self._signs()
        stack: list[list[Any]] = [[]]
        for place, word in enumerate(self.words):
            stack += [[] for _ in range(opens[place])]
            stack[-1].append(word)
            for _ in range(closes[place]):
                done = stack.pop()
                stack[-1].append(done)
        top = stack[0]
        return top[0] if self.spans and len(top) == 1 else top

    def _signs(self) -> tuple[list[int], list[int]]:
        opens, closes = [0] * len(self.words), [0] * len(self.words)
        for start, stop in self.spans:
            opens[start] += 1
            closes[stop - 1] += 1
        return opens, closes

    @classmethod
    def of(cls, words: Sequence[str], spans: Iterable[Span]) -> Brackets:
        """The spans of at least two words among those given, and the whole sentence. 由区间构造，自动加入整句。"""
        size = len(words)
        whole = [(0, size)] if size > 1 else []
        return cls(tuple(words), frozenset([*whole, *(span for span in spans if span[1] - span[0] > 1)]))
