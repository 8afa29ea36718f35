"""Constraints that look at a row's own text: an n-gram of a passage, or any function of the prefix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hanformer.errors import UserError


class PassageNgrams:
    """Allows exactly the n-grams of passages: what is written must continue somewhere in its passage.

    只允许原文中连续出现的片段（n 元组），随处可以结束。

    A state is the passage's number and the places where the text so far may go on, `start(passage)` the first;
    the end token is allowed everywhere, at once too (an empty answer) unless `minimum_length` forbids it.
    Raises UserError where a passage holds the end token.

    Source: kexue.fm/archives/7115.
    """

    def __init__(self, passages: Sequence[Sequence[int]], end_id: int) -> None:
        self.passages = [tuple(passage) for passage in passages]
        self.end_id = end_id
        holding = [number for number, passage in enumerate(self.passages) if end_id in passage]
        if holding:
            raise UserError(f"expected passages without the end token {end_id}; it is in number {holding[0]}")

    def start(self, passage: int) -> tuple[int, tuple[int, ...]]:
        """The state before the first token: every place of the passage."""
        if not 0 <= passage < len(self.passages):
            raise UserError(f"expected a passage in 0..{len(self.passages) - 1}, got {passage}")
        return passage, tuple(range(len(self.passages[passage])))

    def allowed(self, state: tuple[int, tuple[int, ...]]) -> list[int]:
        """What follows in the passage, and the end token."""
        passage = self.passages[state[0]]
        following = {passage[place] for place in state[1] if place < len(passage)}
        return [*following, self.end_id]

    def advance(self, state: tuple[int, tuple[int, ...]], token: int) -> tuple[int, tuple[int, ...]]:
        """The places after those where the token stands."""
        passage = self.passages[state[0]]
        reached = (place for place in state[1] if place < len(passage) and passage[place] == token)
        return state[0], tuple(place + 1 for place in reached)


class PrefixFunction:
    """Allows what a function of the prompt's number and the new tokens says, the end token included.

    由前缀函数决定允许哪些词元。

    A state is the number and the tokens; `start(prompt)` is the first.
    """

    def __init__(self, function: Callable[[int, tuple[int, ...]], Sequence[int]]) -> None:
        self.function = function

    def start(self, prompt: int) -> tuple[int, tuple[int, ...]]:
        """The state before the first token."""
        return prompt, ()

    def allowed(self, state: tuple[int, tuple[int, ...]]) -> Sequence[int]:
        """What the function says."""
        return self.function(*state)

    def advance(self, state: tuple[int, tuple[int, ...]], token: int) -> tuple[int, tuple[int, ...]]:
        """One token more."""
        return state[0], (*state[1], token)
