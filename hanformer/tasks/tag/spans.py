"""Spans of characters, and the tags of units (characters or words) that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from hanformer.errors import UserError

WORD: Final = "word"
"""The kind of all spans of a segmentation. 分词时片段的类型。"""
_BEGINS: Final = "BSU"
_GOES_ON: Final = "IMEL"
_ENDS: Final = "ESLU"


class TextSpan(NamedTuple):
    """Characters `start` to `end` (exclusive) of a text, and what they are.

    文本片段：类型、起点、终点（不含）。
    """

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TaggedText:
    """A text with its spans; `place` says where it was read, for messages.

    带标注的文本。
    """

    text: str
    spans: tuple[TextSpan, ...]
    place: str = ""

    @property
    def words(self) -> list[str]:
        """The text cut where spans begin, so that no character is lost. 按片段起点切开的词。"""
        return cut_at(self.text, [span.start for span in self.spans])


def of_words(words: Sequence[str], place: str = "") -> TaggedText:
    """The text of words laid end to end, each a span. 由词序列得到带标注的文本。"""
    spans: list[TextSpan] = []
    start = 0
    for word in words:
        spans.append(TextSpan(WORD, start, start + len(word)))
        start += len(word)
    return TaggedText("".join(words), tuple(spans), place)


def cut_at(text: str, starts: Iterable[int]) -> list[str]:
    """The pieces of a text that begin at its start and at these places. 在给定位置切开文本。"""
    borders = sorted({0, *starts, len(text)})
    return [text[left:right] for left, right in pairwise(borders)]


def spans_of_tags(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """(kind, first unit, end) of every chunk: B, I, M, E, S (and L, U) before a kind, O outside.

    由标签序列得到片段；兼容 BIO、BMES、BIOES 与 BILOU。

    A tag that goes on with nothing, or with another kind, begins a chunk, as conlleval and seqeval (default mode) do.
    Raises UserError for a tag of another form.
    """
    found: list[tuple[str, int, int]] = []
    kind, start, closed = "", 0, True
    for place, tag in enumerate([*tags, "O"]):
        letter, now = split_tag(tag)
        goes_on = letter in _GOES_ON and not closed and now == kind
        if not goes_on:
            if not closed:
                found.append((kind, start, place))
            kind, start, closed = now, place, letter == "O"
        if letter in _ENDS:
            found.append((kind, start, place + 1))
            closed = True
    return found


def split_tag(tag: str) -> tuple[str, str]:
    """The letter and the kind of a tag: B-PER is B and PER, S is S and nothing.

    标签的前缀与类型。

    Raises UserError for a tag of another form.
    """
    letter, dash, kind = tag.partition("-")
    plain = tag == "O" or (
        letter and letter in _BEGINS + _GOES_ON and len(letter) == 1 and bool(kind or not dash)
    )
    if not plain:
        raise UserError(f"expected a tag such as O, B-PER, I-PER (or B, M, E, S), got {tag!r}")
    return letter, kind


def overlapping(spans: Sequence[TextSpan]) -> tuple[TextSpan, TextSpan] | None:
    """Two spans that share a character, or None. 找出重叠的片段。"""
    ordered = sorted(spans, key=lambda span: (span.start, span.end))
    return next(((left, right) for left, right in pairwise(ordered) if right.start < left.end), None)
