"""SentencePiece's normalisation with the place of every character: character map, blanks, the blank in front.

SentencePiece 的规范化（含 NFKC 映射与空格处理），每个字符都带原文位置。

The compiled map is unfolded once; a text is then cut by one regular expression at the
characters at which a rule can begin, so that what no rule concerns costs next to nothing.

Source: Kudo & Richardson 2018, arXiv 1808.06226, section 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from hanformer.text.character_map import CharacterMap
from hanformer.text.placed_text import PlacedText
from hanformer.text.sentencepiece_model import SPACE, Normalising

_RUNS: Final = re.compile(" +|[^ ]+")

_Chunk = tuple[str, int, int, bool]
"""What text[start:end] becomes, start, end, and whether it stays as it is. 片段及其位置。"""


class Normaliser:
    """Makes of a text what a SentencePiece model cuts. 规范化器。

    `kept` are the pieces that users defined: they are found first and never changed. `blank_behind` puts the
    added blank at the end.
    Raises: UserError naming `origin`, where the compiled rules are damaged.
    """

    def __init__(
        self,
        settings: Normalising,
        kept: Iterable[str] = (),
        *,
        blank_behind: bool = False,
        origin: str = "SentencePiece model",
    ) -> None:
        self.settings = settings
        self.blank_behind = blank_behind
        self._rules = CharacterMap(settings.rules, origin)
        self._settled = self._rules.settled()
        self._candidates = _candidates(self._rules, sorted(kept, key=len, reverse=True))

    def __call__(self, text: str) -> PlacedText:
        """The normalised text. 规范化。"""
        added = self.settings.blank_before
        made = _Growing(SPACE if self.settings.escape_blanks else " ", added and not self.blank_behind)
        begun = self._add_singly(made, text) if self.settings.single_blanks else self._add_all(made, text)
        if added and self.blank_behind and begun:
            made.blank(made.ends[-1] if made.ends else len(text))
        return PlacedText("".join(made.parts), made.starts, made.ends)

    def _add_all(self, made: _Growing, text: str) -> bool:
        """Add the chunks; whether there was anything."""
        for chunk in self._chunks(text):
            made.add(chunk)
        return bool(text)

    def _add_singly(self, made: _Growing, text: str) -> bool:
        """Add the chunks with one blank for several, none at the borders; whether one was no blank."""
        after_blank, begun = True, False
        for part, first, last, plain in self._runs(text):
            begun = begun or part != " "
            left = part.lstrip(" ") if after_blank else part
            if left:
                made.add((left, first + len(part) - len(left) if plain else first, last, plain))
                after_blank = left.endswith(" ")
        made.trim()
        return begun

    def _runs(self, text: str) -> Iterator[_Chunk]:
        """The chunks, those with several blanks together cut there, and only the first blank kept."""
        for chunk in self._chunks(text):
            part, start, _, plain = chunk
            if not plain or "  " not in part:
                yield chunk
                continue
            for match in _RUNS.finditer(part):
                first, last = match.span()
                run = match.group() if part[first] != " " else " "
                yield run, start + first, start + (last if run != " " else first + 1), True

    def _chunks(self, text: str) -> Iterator[_Chunk]:
        """Replaced parts, and the runs between them."""
        done = place = 0
        while match := self._candidates.search(text, place):
            first, place = match.span()
            if match.lastindex:  # a piece that users defined
                continue
            become = self._settled.get(text[first])
            if become is None:
                rule = self._rules.longest(text, first)
                if rule is None:
                    place = first + 1
                    continue
                place, become = rule
            if done < first:
                yield text[done:first], done, first, True
            yield become, first, place, False
            done = place
        if done < len(text):
            yield text[done:], done, len(text), True


class _Growing:
    """A `PlacedText` that is being written; before its first character comes the added blank, if wanted."""

    def __init__(self, sign: str, blank_before: bool) -> None:
        self.parts: list[str] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.sign = sign
        self.blank_before = blank_before

    def blank(self, place: int) -> None:
        self.parts.append(self.sign)
        self.starts.append(place)
        self.ends.append(place)

    def add(self, chunk: _Chunk) -> None:
        part, first, last, plain = chunk
        if self.blank_before:
            self.blank(first)
            self.blank_before = False
        self.parts.append(part.replace(" ", self.sign))
        if plain:
            self.starts += range(first, last)
            self.ends += range(first + 1, last + 1)
        else:
            self.starts += [first] * len(part)
            self.ends += [last] * len(part)

    def trim(self) -> None:
        text = "".join(self.parts).rstrip(self.sign)
        self.parts = [text] if text else []
        del self.starts[len(text) :], self.ends[len(text) :]


def _candidates(rules: CharacterMap, kept: list[str]) -> re.Pattern[str]:
    """Where something can begin: a kept piece (the only group), or a rule."""
    alone, (first, second) = rules.alone(), rules.openings()
    choices = [f"({'|'.join(map(re.escape, kept))})"] if kept else []
    if alone:
        choices.append(_any_of(alone))
    if first - alone:
        choices.append(f"{_any_of(first - alone)}(?={_any_of(second)})")
    return re.compile("|".join(choices) or "(?!)")


def _any_of(characters: Iterable[str]) -> str:
    """A class of characters, neighbours as ranges."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "]"
