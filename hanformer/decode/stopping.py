"""When to stop besides the end token: strings, other tokens, time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hanformer.errors import UserError

Decode = Callable[[Sequence[int]], str]
"""Text of token ids. 由词元编号得到文本。"""


def cut_at(text: str, strings: Sequence[str]) -> str:
    """The text before the string that is the first to be complete, as one who reads along would cut it.

    在最先完整出现的停止串之前截断；同时完整时取较长者。
    """
    found = [(text.find(string), string) for string in strings if string in text]
    if not found:
        return text
    return text[: min((start + len(string), start) for start, string in found)[1]]


def checked_strings(strings: Sequence[str]) -> tuple[str, ...]:
    """The strings, none of them empty, or a UserError. 校验停止串。"""
    if isinstance(strings, str) or not all(strings):
        raise UserError(f"expected a list of stop strings that are not empty, got {strings!r}")
    return tuple(strings)


@dataclass(frozen=True)
class StopStrings:
    """Finishes a path whose new text holds one of the strings, wherever the tokens part; `stop` of `generate`.

    新文本中出现任一停止串即结束（可跨词元）。

    The tokens keep the string: `cut_at` takes it from the text. Raises UserError for an empty string.
    """

    decode: Decode
    strings: Sequence[str]

    def __post_init__(self) -> None:
        checked_strings(self.strings)

    def __call__(self, tokens: Sequence[int]) -> bool:
        """Whether the text holds a stop string."""
        text = self.decode(tokens)
        return any(string in text for string in self.strings)


@dataclass(frozen=True)
class StopTokens:
    """Finishes a path at any of these tokens, which it keeps; `stop` of `generate`. 遇到任一词元即结束。"""

    tokens: frozenset[int]

    def __call__(self, tokens: Sequence[int]) -> bool:
        """Whether the last token is one of them."""
        return tokens[-1] in self.tokens


@dataclass(frozen=True)
class TimeLimit:
    """True once the seconds have passed since it was made; `interrupt` of `generate`. 时间上限。

    Raises UserError unless seconds > 0.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    start: float = field(init=False)

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise UserError(f"expected a time limit above 0 seconds, got {self.seconds}")
        object.__setattr__(self, "start", self.clock())

    def __call__(self) -> bool:
        """Whether time is up."""
        return self.clock() - self.start >= self.seconds
