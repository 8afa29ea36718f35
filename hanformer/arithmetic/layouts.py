"""How a problem and its expression become token ids: what both layouts share.

A layout reads a problem (`read`), writes the expression to be learned (`write`), gives the grammar under which
a model may decode (`grammar`), and turns what was decoded back into an expression (`understand`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from hanformer.arithmetic.expression import Expression
from hanformer.arithmetic.grammar import Grammar, InfixGrammar, Operands, PrefixGrammar
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.slots import NumberSpan
from hanformer.errors import UserError

LAYOUT_FILE = "layout.json"
NO_NUMBERS = "the problem has no number: write its numbers as digits, such as 3, 2.5, (1/2) or 20%"
#: The longest problem that is read, in characters; longer ones are refused.
LONGEST_TEXT = 1000


@dataclass(frozen=True)
class Reading:
    """A problem as the model sees it: source ids, the numbers that slots stand for, and the usable operands.

    模型眼中的一道题：源序列、各槽位的数，以及可用的操作数。
    """

    source: tuple[int, ...]
    numbers: tuple[NumberSpan, ...]
    operands: Operands


@dataclass(frozen=True)
class Noise:
    """How problems vary in training, so that a small model does not learn texts by heart.

    训练时题目的随机扰动，避免小模型死记题面。

    `piece_dropout`: share of joins that cutting into pieces skips (BPE-dropout, arXiv 1910.13267);
    `mask`: share of text tokens replaced by [MASK]; `writings`: share of targets that are written anew, in
    another order and with other brackets (layout slots). Numbers are never touched.
    """

    piece_dropout: float = 0.1
    mask: float = 0.1
    writings: float = 0.0

    def __post_init__(self) -> None:
        for name in ("piece_dropout", "mask", "writings"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"noise: {name} is a share from 0 up to 1, got {getattr(self, name)}")


class ProblemLayout(Protocol):
    """The contract of a layout. 布局协议。"""

    name: str

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids."""

    @property
    def end(self) -> int:
        """The id that ends a target."""

    @property
    def grammar(self) -> Grammar:
        """The automaton of well-formed targets."""

    def read(self, text: str) -> Reading:
        """A problem's text; raises UserError for one that cannot be read."""

    def write_all(
        self, problems: Sequence[Problem], readings: Sequence[Reading]
    ) -> list[tuple[int, ...] | None]:
        """The targets of training problems, ends included; None where this layout cannot express one."""

    def vary(self, problem: Problem, reading: Reading, noise: Noise, random: Random) -> tuple[int, ...]:
        """The source of a training problem, read a little differently each time."""

    def understand(self, target: Sequence[int], reading: Reading) -> Expression:
        """The expression of decoded ids (without the end), over the slots of the reading."""

    def save(self, folder: Path) -> None:
        """Writes what `load_layout` needs."""


def check_text(text: str) -> str:
    """The text without control characters; refuses what is empty or too long.

    去除控制字符；空题或过长的题会被拒绝。
    """
    readable = "".join(character if character.isprintable() else " " for character in text).strip()
    if not readable:
        raise UserError("the problem is empty: give the text of one word problem")
    if len(readable) > LONGEST_TEXT:
        raise UserError(
            f"the problem has {len(readable)} characters; at most {LONGEST_TEXT} are read: shorten it"
        )
    return readable


def grammar_for(order: str, ids: dict[str, int], operators: Sequence[str], end: int) -> Grammar:
    """The grammar of that target order over the ids of its operators and brackets.

    指定目标次序的语法。
    """
    chosen = frozenset(ids[operator] for operator in operators)
    if order == "prefix":
        return PrefixGrammar(chosen, end)
    if order == "infix":
        return InfixGrammar(chosen, end, ids["("], ids[")"])
    raise UserError(f"target order: expected prefix or infix, got {order!r}")
