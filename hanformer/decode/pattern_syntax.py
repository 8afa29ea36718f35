"""Regular expressions read into trees: the part of Python's syntax that describes a regular language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hanformer.errors import UserError

Ranges = tuple[tuple[int, int], ...]
"""Code points from a to b, both included. 字符区间（含两端）。"""

LAST: Final = 0x10FFFF
DEEPEST: Final = 50
MOST_REPEATS: Final = 1000
_DIGIT: Final = ((48, 57),)
_WORD: Final = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Final = ((9, 13), (32, 32))
_NAMED: Final[dict[str, Ranges]] = {"n": ((10, 10),), "t": ((9, 9),), "r": ((13, 13),)}


@dataclass(frozen=True)
class Letter:
    """One character of these ranges."""

    ranges: Ranges


@dataclass(frozen=True)
class Chain:
    """Parts one after the other."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Choice:
    """One of the parts."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Repeat:
    """The part at least `least` and at most `most` times (None: any number)."""

    part: Tree
    least: int
    most: int | None


Tree = Letter | Chain | Choice | Repeat


def complement(ranges: Ranges) -> Ranges:
    """Every other code point. 补集。"""
    others, place = [], 0
    for first, last in sorted(ranges):
        if first > place:
            others.append((place, first - 1))
        place = max(place, last + 1)
    return (*others, (place, LAST)) if place <= LAST else tuple(others)


_CLASSES: Final[dict[str, Ranges]] = {
    "d": _DIGIT,
    "w": _WORD,
    "s": _SPACE,
    "D": complement(_DIGIT),
    "W": complement(_WORD),
    "S": complement(_SPACE),
}


def parse(expression: str) -> Tree:
    """The tree of an expression; raises UserError, with the place, for anything outside the subset.

    解析正则表达式；超出子集则报错并指出位置。
    """
    reader = _Reader(expression)
    tree = reader.choice(0)
    if reader.place < len(expression):
        raise reader.error("unbalanced )")
    return tree


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    def error(self, reason: str) -> UserError:
        return UserError(f"regular expression {self.text!r}: {reason} at character {self.place + 1}")

    def peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def take(self) -> str:
        character = self.peek()
        if not character:
            raise self.error("it ends too early")
        self.place += 1
        return character

    def choice(self, depth: int) -> Tree:
        """Chains with | between them, up to the end of the text or of the group."""
        if depth > DEEPEST:
            raise self.error(f"more than {DEEPEST} nested groups")
        parts = [self.chain(depth)]
        while self.peek() == "|":
            self.take()
            parts.append(self.chain(depth))
        return parts[0] if len(parts) == 1 else Choice(tuple(parts))

    def chain(self, depth: int) -> Tree:
        """Parts one after the other, each with its count, up to a | or a closing bracket; none is the empty text."""
        parts: list[Tree] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated(self.atom(depth)))
        return Chain(tuple(parts))

    def atom(self, depth: int) -> Tree:
        """The smallest part that a count can follow: a group, a class, an escape, a dot or a character."""
        character = self.take()
        if character == "(":
            return self.group(depth)
        if character == "[":
            return self.bracket()
        if character == "\\":
            return Letter(self.escape())
        if character == ".":
            return Letter(complement(((10, 10),)))
        if character in "*+?{}^$":
            self.place -= 1
            raise self.error(
                f"{character} is not supported here (the whole text must match; write \\{character} for the sign)"
            )
        return Letter(_one(character))

    def group(self, depth: int) -> Tree:
        if self.peek() == "?":
            if self.text[self.place : self.place + 2] != "?:":
                raise self.error("of (?...) only (?:...) is supported")
            self.place += 2
        tree = self.choice(depth + 1)
        if self.peek() != ")":
            raise self.error("missing )")
        self.take()
        return tree

    def repeated(self, part: Tree) -> Tree:
        sign = self.peek()
        if sign not in ("*", "+", "?", "{"):
            return part
        self.take()
        least, most = self.counts() if sign == "{" else {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        if self.peek() in ("*", "+", "?", "{"):
            raise self.error("a second quantifier is not supported")
        return Repeat(part, least, most)

    def counts(self) -> tuple[int, int | None]:
        least = self.number()
        most: int | None = least
        if self.peek() == ",":
            self.take()
            most = None if self.peek() == "}" else self.number()
        if self.take() != "}" or (most is not None and most < least):
            raise self.error("expected {m}, {m,} or {m,n} with m <= n")
        return least, most

    def number(self) -> int:
        start = self.place
        while self.peek() in tuple("0123456789"):
            self.place += 1
        digits = self.text[start : self.place]
        if not 1 <= len(digits) <= 4 or int(digits) > MOST_REPEATS:
            raise self.error(f"expected a count from 0 to {MOST_REPEATS}")
        return int(digits)

    def escape(self) -> Ranges:
        character = self.take()
        if character in _CLASSES:
            return _CLASSES[character]
        if character in _NAMED:
            return _NAMED[character]
        if character.isalnum():
            raise self.error(f"\\{character} is not supported")
        return _one(character)

    def bracket(self) -> Letter:
        negated = self.peek() == "^"
        if negated:
            self.take()
        ranges: list[tuple[int, int]] = []
        while self.peek() != "]" or not ranges:
            ranges += self.member()
        self.take()
        kept = complement(tuple(ranges)) if negated else tuple(ranges)
        if not kept:
            raise self.error("the class holds no character")
        return Letter(kept)

    def member(self) -> Ranges:
        first = self.bracket_sign()
        if self.peek() != "-" or self.text[self.place + 1 : self.place + 2] in ("]", ""):
            return first
        self.take()
        last = self.bracket_sign()
        single = len(first) == len(last) == 1 and first[0][0] == first[0][1] and last[0][0] == last[0][1]
        if not single or first[0][0] > last[0][0]:
            raise self.error("expected a range a-b of two characters in their order")
        return ((first[0][0], last[0][0]),)

    def bracket_sign(self) -> Ranges:
        character = self.take()
        return self.escape() if character == "\\" else _one(character)


def _one(character: str) -> Ranges:
    return ((ord(character), ord(character)),)
