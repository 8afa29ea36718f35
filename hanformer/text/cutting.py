"""From a stretch of text to WordPiece ids and offsets: the greedy rule, and the two ways through a text.

    piece_1 = the longest prefix of the word in V;  piece_k = the longest "##" + prefix of the rest in V;
    a word with a rest that has no piece, or of more than `longest_word` characters, is one [UNK].

`ChunkCutter`, the fast path: one regular expression cuts a text into runs of ideographs and common
punctuation, each character of which is a token by one look-up, and other chunks, which go the whole way once
and are remembered. `SegmentCutter`: a word segmenter goes first, and each of its words is remembered.

由文本到子词编号与位置：贪心最长匹配；快速路径按块切分并记忆，分词路径先由分词器切词。
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

from hanformer.text.basic import SPACES, BasicRules, Placed, Word
from hanformer.text.conventions import Convention
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.word_segmentation import Segmenter

CONTINUATION: Final = "##"
"""What a piece that does not begin its word begins with. 非词首子词的前缀。"""

# Only what is common: punctuation that is not here goes the long way, with the same result.
_PUNCTUATION: Final = (
    r"!-/:-@\[-`{-~\u00b7\u2010-\u2027\u3001-\u3003\u3008-\u3011\u3014-\u301f"
    r"\uff01-\uff03\uff05-\uff0a\uff0c-\uff0f\uff1a\uff1b\uff1f\uff20\uff3b-\uff3d\uff3f\uff5b\uff5d"
)
_IDEOGRAPHS: Final = r"\u4e00-\u9fff\u3400-\u4dbf"
# What no rule changes, but for the case of its letters.
_PLAIN: Final = re.compile(f"[ 0-9A-Za-z{_PUNCTUATION}{_IDEOGRAPHS}]*")
_UNITS: Final = tuple((place, place + 1) for place in range(2048))
_REMEMBERED: Final = 1 << 16
_LONGEST_REMEMBERED: Final = 64

Found = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]
"""Ids, and offsets within what was cut. 编号与块内位置。"""


class Cutter(Protocol):
    """A way through a text. 切分器。"""

    def cut(self, text: str, start: int, end: int, ids: list[int], offsets: list[tuple[int, int]]) -> None:
        """Append the pieces of text[start:end], offsets within `text`. 追加该段文本的子词。"""
        ...


class GreedyPieces:
    """The greedy rule over one vocabulary, for texts of any rules. 贪心最长匹配。"""

    def __init__(
        self, vocabulary: Vocabulary, rules: BasicRules, convention: Convention, longest_word: int
    ) -> None:
        self.rules = rules
        self.convention = convention
        self.longest_word = longest_word
        self._known = vocabulary.ids
        self._unknown = vocabulary.unk_id
        self._longest_piece = max(map(len, vocabulary.tokens), default=0)

    def of_text(self, text: str) -> Found:
        """The pieces of a stretch of text. 一段文本的子词。"""
        return self.of_words(self.convention.words(text, self.rules))

    def of_words(self, words: Iterable[Word]) -> Found:
        """The pieces of words, at the places that their characters come from. 若干词的子词。"""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for word in words:
            for left, right, number in self.borders(word.text) or [(0, len(word.text), self._unknown)]:
                ids.append(number)
                offsets.append(_span(word.origins[left:right]))
        return tuple(ids), tuple(offsets)

    def borders(self, word: str) -> list[tuple[int, int, int]] | None:
        """(start, end, id) of each piece of a word; None where it has to be unknown. 词内各子词的边界。"""
        if len(word) > self.longest_word:
            return None
        found: list[tuple[int, int, int]] = []
        start, prefix, known = 0, "", self._known
        while start < len(word):
            end = min(len(word), start + self._longest_piece)
            while end > start and prefix + word[start:end] not in known:
                end -= 1
            if end == start:
                return None
            found.append((start, end, known[prefix + word[start:end]]))
            start, prefix = end, CONTINUATION
        return found


class ChunkCutter:
    """The fast path. 快速路径：按块切分并记忆。"""

    def __init__(self, vocabulary: Vocabulary, pieces: GreedyPieces) -> None:
        self.pieces = pieces
        self._single = _Single(vocabulary)
        self._chunks = _chunk_pattern(pieces.rules.split_chinese)
        self._remembered: dict[str, Found] = {}

    def cut(self, text: str, start: int, end: int, ids: list[int], offsets: list[tuple[int, int]]) -> None:
        """Append the pieces of text[start:end]. 追加该段文本的子词。"""
        single, remembered = self._single.__getitem__, self._remembered.get
        for match in self._chunks.finditer(text, start, end):
            first, last = match.span()
            chunk = match.group()
            if match.lastindex:
                ids += map(single, chunk)
                offsets += _units(first, last)
            else:
                found_ids, found_offsets = remembered(chunk) or self._find(chunk)
                ids += found_ids
                offsets += [(first + left, first + right) for left, right in found_offsets]

    def _find(self, chunk: str) -> Found:
        found = self.pieces.of_text(chunk)
        _remember(self._remembered, chunk, found)
        return found


class SegmentCutter:
    """Words by a segmenter first; one that the vocabulary lacks is cut as any text is.

    先由分词器切词；词表中没有的词再按通常方式切分。
    """

    def __init__(self, pieces: GreedyPieces, segmenter: Segmenter) -> None:
        self.pieces = pieces
        self.segmenter = segmenter
        self._remembered: dict[str, Found] = {}

    def cut(self, text: str, start: int, end: int, ids: list[int], offsets: list[tuple[int, int]]) -> None:
        """Append the pieces of text[start:end]. 追加该段文本的子词。"""
        part = text[start:end]
        if self.pieces.rules.split_chinese and _PLAIN.fullmatch(part):
            self._cut_plain(part.lower() if self.pieces.rules.lowercase else part, start, ids, offsets)
        else:
            self._cut_any(self.pieces.convention.normalise(part, self.pieces.rules), start, ids, offsets)

    def _cut_plain(self, text: str, first: int, ids: list[int], offsets: list[tuple[int, int]]) -> None:
        for segment in self.segmenter.cut(text):
            found_ids, found_offsets = self._remembered.get(segment) or self._find(segment)
            ids += found_ids
            offsets += [(first + left, first + right) for left, right in found_offsets]
            first += len(segment)

    def _cut_any(
        self, placed: list[Placed], first: int, ids: list[int], offsets: list[tuple[int, int]]
    ) -> None:
        origins = [first + place for _, place in placed]
        start = 0
        for segment in self.segmenter.cut("".join(character for character, _ in placed)):
            found_ids, found_offsets = self._remembered.get(segment) or self._find(segment)
            ids += found_ids
            offsets += [_span(origins[start + left : start + right]) for left, right in found_offsets]
            start += len(segment)

    def _find(self, segment: str) -> Found:
        whole = self.pieces.borders(segment) or []
        if len(whole) == 1:
            found: Found = ((whole[0][2],), ((0, len(segment)),))
        else:
            placed = [(character, place) for place, character in enumerate(segment)]
            found = self.pieces.of_words(self.pieces.convention.split(placed, self.pieces.rules))
        _remember(self._remembered, segment, found)
        return found


class _Single(dict[str, int]):
    """The ids of single characters; what is missing is unknown."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__((token, number) for token, number in vocabulary.ids.items() if len(token) == 1)
        self.unknown = vocabulary.unk_id

    def __missing__(self, character: str) -> int:
        return self.unknown

    def __reduce__(self) -> tuple[object, ...]:
        return (_restored_single, (dict(self), self.unknown))


def _restored_single(ids: dict[str, int], unknown: int) -> _Single:
    single = _Single.__new__(_Single)
    single.update(ids)
    single.unknown = unknown
    return single


def _remember(remembered: dict[str, Found], text: str, found: Found) -> None:
    if len(text) > _LONGEST_REMEMBERED:
        return
    if len(remembered) >= _REMEMBERED:
        remembered.clear()
    remembered[text] = found


def _chunk_pattern(split_chinese: bool) -> re.Pattern[str]:
    single = _PUNCTUATION + (_IDEOGRAPHS if split_chinese else "")
    return re.compile(f"([{single}]+)|[^{re.escape(SPACES)}{single}]+")


def _units(first: int, last: int) -> Iterable[tuple[int, int]]:
    if last <= len(_UNITS):
        return _UNITS[first:last]
    return zip(range(first, last), range(first + 1, last + 1), strict=True)


def _span(origins: Iterable[int]) -> tuple[int, int]:
    places = tuple(origins)
    return min(places), max(places) + 1
