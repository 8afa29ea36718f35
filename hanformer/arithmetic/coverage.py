"""What the slot layout can express of a data set: by slots alone, and with each constant that it learns.

槽位布局能表达数据集中的多少题目：仅用槽位，以及逐个加入常数。
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hanformer.arithmetic.answers import format_answer, parse_answer
from hanformer.arithmetic.cleaning import clean_all, read_equation
from hanformer.arithmetic.expression import ExpressionError, Number, leaves
from hanformer.arithmetic.notation import literal
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.slot_layout import find_constants
from hanformer.arithmetic.slots import align, find_numbers
from hanformer.arithmetic.splits import Split
from hanformer.errors import UserError

_DOUBLE_BRACKETS = re.compile(r"\(\(([0-9]+)\)/\(([0-9]+)\)\)")


@dataclass(frozen=True)
class Coverage:
    """How many problems of a part can be expressed, and what else a layout is chosen by. 一个划分的覆盖情况。

    `expressible[k]` counts the problems whose equation needs only slots and the first k `constants`; `numbers` and
    `numbers_with_chinese` count the numbers of all texts; `as_published` of `kept` problems have an answer that is
    written exactly as published when its right value is given.
    """

    problems: int
    constants: tuple[Fraction, ...]
    expressible: tuple[int, ...]
    numbers: int
    numbers_with_chinese: int
    as_published: int
    kept: int

    def lines(self) -> Iterator[str]:
        """The counts for people to read. 供阅读的各行。"""
        named = ["slots alone"]
        named += [f"with {literal(constant)}" for constant in self.constants]
        for name, count in zip(named, self.expressible, strict=True):
            yield f"  {name}: {count:,} expressible ({count / self.problems:.2%})"
        idle = (self.numbers_with_chinese - self.numbers) / self.problems
        yield f"  numbers a problem: {self.numbers / self.problems:.2f}, Chinese numerals add {idle:.2f}"
        share = self.as_published / max(self.kept, 1)
        yield f"  answers written exactly as published: {self.as_published:,} of {self.kept:,} ({share:.1%})"


def cover(split: Split) -> dict[str, Coverage]:
    """The coverage of each part that holds problems, with the constants that the training part teaches.

    各划分的覆盖情况；常数由训练部分得出。

    Raises UserError where no part holds a problem.
    """
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    held = {name: problems for name, problems in parts.items() if problems}
    if not held:
        raise UserError("expected at least one problem, got none")
    constants = find_constants(split.train or next(iter(held.values())))
    return {name: _coverage(problems, constants) for name, problems in held.items()}


def _coverage(problems: Sequence[Problem], constants: tuple[Fraction, ...]) -> Coverage:
    expressible = [0] * (len(constants) + 1)
    for problem in problems:
        needed = _constants_needed(problem, constants)
        for count in range(len(constants) + 1):
            expressible[count] += needed is not None and needed <= count
    kept = clean_all(problems).originals
    return Coverage(
        len(problems),
        constants,
        tuple(expressible),
        sum(len(find_numbers(problem.text)) for problem in problems),
        sum(len(find_numbers(problem.text, True)) for problem in problems),
        sum(_as_published(problem) for problem in kept),
        len(kept),
    )


def _constants_needed(problem: Problem, constants: Sequence[Fraction]) -> int | None:
    """How many of the constants, from the first, express the equation; None where all do not."""
    numbers = find_numbers(problem.text)
    try:
        equation = read_equation(problem.equation)
    except ExpressionError:
        return None
    aligned = align(equation, numbers, constants)
    if aligned is None:
        return None
    used = {leaf.value for leaf in leaves(aligned) if isinstance(leaf, Number)}
    return max((constants.index(value) + 1 for value in used), default=0)


def _as_published(problem: Problem) -> bool:
    """Whether the right value is written as the published answer, ((1)/(2)) being a way to write (1/2)."""
    if problem.answer is None:
        return False
    written = format_answer(parse_answer(problem.answer), problem.text, read_equation(problem.equation))
    return written == _DOUBLE_BRACKETS.sub(r"(\1/\2)", problem.answer)
