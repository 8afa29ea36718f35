"""The record of one kind of generated problem, and the ways in which its numbers are written.

自编题型的记录，以及数字的写法。

A kind is data: forms that differ in what is given, the wordings of each form, and what can be asked of it.
An equation never puts brackets around a single division: ``(12/5)`` would read as the fraction 12/5.
Templates know two signs: ``{name}`` is a drawn number or word, ``[a|b|]`` is a choice of phrases. A story may
place its question with ``{ask}``; otherwise the question follows the story.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd
from random import Random
from typing import Literal, TypeAlias

from hanformer.arithmetic.expression import read_literal

Value: TypeAlias = int | str
"""A number as the text writes it: an integer, or ``3.5``, ``(1/4)``, ``1(1/2)``, ``20%``."""
Values: TypeAlias = dict[str, Value]
Answer: TypeAlias = Literal["integer", "decimal", "fraction", "percent"]


@dataclass(frozen=True, eq=False)  # compared by identity: a kind is looked up for every problem
class Question:
    """What is asked, the one equation that answers it, and the form of the answer. 问法、方程与答案形式。"""

    ask: str
    equation: str
    answer: Answer = "integer"


@dataclass(frozen=True, eq=False)
class Words:
    """Words that vary together: every row gives one word to each field. 成组变化的词语。"""

    fields: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Form:
    """Problems with the same givens: any story goes with any question. 已知条件相同的一组题。

    `draw` may give numbers that make no sense; those that a question cannot use are drawn again.
    """

    draw: Callable[[Random], Values]
    stories: tuple[str, ...]
    held_out: tuple[str, ...]
    questions: tuple[Question, ...]
    words: tuple[Words, ...] = ()


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of problem; `asides` are sentences that have nothing to do with the answer. 一类应用题。"""

    name: str
    english: str
    forms: tuple[Form, ...]
    asides: tuple[str, ...] = ()


def between(rng: Random, *ranges: tuple[int, int]) -> int:
    """An integer from one of several ranges, bounds included. 从若干区间之一取整数。"""
    low, high = ranges[rng.randrange(len(ranges))]
    return rng.randint(low, high)


def decimal(rng: Random, low: int, high: int, places: int = 1) -> str:
    """A decimal between two integers, without zeros at its end. 取一个小数。"""
    unit: int = 10**places
    return shown(Fraction(rng.randint(low * unit, high * unit), unit))


def maybe_decimal(rng: Random, low: int, high: int) -> str:
    """An integer or, every third time, a decimal with one place. 取整数，偶尔取一位小数。"""
    return decimal(rng, low, high, 1 if rng.randrange(3) == 0 else 0)


def fraction(rng: Random, largest: int = 12) -> str:
    """A proper fraction in lowest terms, ``(3/4)``. 取最简真分数。"""
    bottom = rng.randint(2, largest)
    top = rng.randint(1, bottom - 1)
    divisor = gcd(top, bottom)
    return f"({top // divisor}/{bottom // divisor})"


def percent(rng: Random, low: int, high: int, step: int = 5) -> str:
    """A percentage that is a multiple of `step`, ``20%``. 取百分数。"""
    return f"{step * rng.randint(-(-low // step), high // step)}%"


@lru_cache(maxsize=2**16)
def exact(value: Value) -> Fraction:
    """The exact value of a number as written. 数字写法对应的精确值。"""
    if isinstance(value, int):
        return Fraction(value)
    found = read_literal(value)
    if found is None:
        raise ValueError(f"expected a number such as 3, 3.5, (1/4), 1(1/2) or 20%, found {value!r}")
    return found


def shown(value: Fraction) -> str:
    """A terminating value as an integer or a decimal: ``3``, ``3.25``. 写成整数或有限小数。"""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.6f}".rstrip("0")


def written(value: Fraction, form: Answer) -> str | None:
    """The answer in the form that is asked for, or None where that would be unnatural. 按所问的形式写答案。

    Counted things are whole, decimals have at most 3 places, percentages at most 1, denominators at most 36;
    every answer is positive.
    """
    if value <= 0:
        return None
    if form == "fraction":
        return _mixed(value) if value.denominator <= 36 else None
    scale = {"integer": 1, "decimal": 1000, "percent": 1000}[form]
    if (value * scale).denominator != 1:
        return None
    return f"{shown(value * 100)}%" if form == "percent" else shown(value)


def _mixed(value: Fraction) -> str:
    whole, rest = divmod(value.numerator, value.denominator)
    if rest == 0:
        return str(whole)
    return f"{whole or ''}({rest}/{value.denominator})"
