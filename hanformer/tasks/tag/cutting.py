"""From texts to windows of tokens and back: long texts overlap, and every token is answered for by one window."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hanformer.tasks.tag.characters import CharacterTokens
from hanformer.tasks.tag.labels import TokenSpan
from hanformer.tasks.tag.spans import TextSpan
from hanformer.text.protocols import Encoding, Tokenizer
from hanformer.text.windows import windows

UNITS = ("characters", "pieces")


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text as the model reads it.

    文本的一个窗口。

    `ids` with what is put around them; places inner[0] to inner[1] of them are tokens of the text, the first of them
    its token `begin`. The window answers for the text's tokens owned[0] to owned[1]: each token of a text is owned by
    the window in which it stands farthest from a cut.
    """

    ids: tuple[int, ...]
    inner: tuple[int, int]
    begin: int
    owned: tuple[int, int]


@dataclass(frozen=True, slots=True)
class CutText:
    """The windows of a text, and the characters of each of its tokens. 切好的文本：窗口与词元偏移。"""

    windows: tuple[Window, ...]
    offsets: Sequence[tuple[int, int]]

    def to_tokens(self, spans: Iterable[TextSpan], kinds: dict[str, int]) -> list[TokenSpan]:
        """Spans of characters as spans of tokens, widened where a border lies inside a token. 字符片段转词元片段。"""
        starts = [start for start, _ in self.offsets]
        ends = [end for _, end in self.offsets]
        found = (
            (kinds[kind], bisect_right(ends, start), bisect_left(starts, end)) for kind, start, end in spans
        )
        return [span for span in found if span[1] < span[2]]

    def to_text(self, spans: Iterable[TokenSpan], kinds: Sequence[str]) -> list[TextSpan]:
        """Spans of tokens as spans of characters. 词元片段转字符片段。"""
        return [
            TextSpan(kinds[kind], self.offsets[start][0], self.offsets[end - 1][1])
            for kind, start, end in spans
        ]


class Cutter:
    """Cuts texts into windows of at most `maximum_length` tokens, neighbours sharing `overlap` of them.

    把文本切成窗口。

    Raises UserError (when cutting) for lengths without room.
    """

    def __init__(self, tokenizer: Tokenizer, unit: str, maximum_length: int, overlap: int) -> None:
        self.tokenizer = CharacterTokens(tokenizer) if unit == "characters" else tokenizer
        self.maximum_length, self.overlap = maximum_length, overlap

    def cut(self, text: str) -> CutText:
        """The windows of a text; none where it has no token."""
        around = len(self.tokenizer.encode("").ids)
        stride = max(1, self.maximum_length - around - self.overlap)
        return _owned(windows(self.tokenizer, text, self.maximum_length, stride), stride)


def _owned(encodings: Sequence[Encoding], stride: int) -> CutText:
    inner = [_inner(encoding) for encoding in encodings]
    begins = [number * stride for number in range(len(encodings))]
    ends = [begin + stop - start for begin, (start, stop) in zip(begins, inner, strict=True)]
    borders = [0, *((begin + end) // 2 for begin, end in zip(begins[1:], ends, strict=False)), ends[-1]]
    found: list[Window] = []
    offsets: list[tuple[int, int]] = []
    for number, encoding in enumerate(encodings):
        owned = (borders[number], borders[number + 1])
        found.append(Window(tuple(encoding.ids), inner[number], begins[number], owned))
        shift = inner[number][0] - begins[number]
        offsets.extend(encoding.offsets[owned[0] + shift : owned[1] + shift])
    return CutText(tuple(found) if offsets else (), offsets)


def _inner(encoding: Encoding) -> tuple[int, int]:
    places = [place for place, (start, end) in enumerate(encoding.offsets) if end > start]
    return (places[0], places[-1] + 1) if places else (0, 0)
