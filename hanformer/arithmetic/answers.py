"""Answers in the form that a question asks for: integer, decimal, fraction or percent.

按题目要求的形式给出答案：整数、小数、分数或百分数。
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from hanformer.arithmetic.cleaning import rewrite_equation
from hanformer.arithmetic.expression import Expression, Negate, Number, Operation, Slot, evaluate, parse
from hanformer.arithmetic.notation import literal
from hanformer.arithmetic.slots import NumberSpan, find_numbers, quotient

AnswerForm: TypeAlias = Literal["integer", "decimal", "fraction", "percent"]

# 百分之几, 多少%, 几成, and a rate or a concentration at the end: 出勤率是多少？ 税率=？
# 求利润率．（百分号前保留一位小数）
_PERCENT_ASKED: Final = re.compile(
    r"百分之(?:几|多少)|百分[数比率]|(?:几|多少)%|几成"
    r"|(?:率|浓度)(?:[是为=约]|大约)*(?:多少|几)?[？?．。]?(?:[（(][^（()）]*[)）][．。]?)?$"
)
# 几分之几, 用分数表示, and the empty fraction ((())/(())) that a question leaves to be filled in.
_FRACTION_ASKED: Final = re.compile(
    r"(?:几|多少)分之|分之(?:几|多少)|分数(?:表示|[=是为]|$)|[用填]分数|\(+\)+/\(+\)+"
)


def parse_answer(text: str) -> Fraction:
    """The exact value of a written answer: ``3``, ``3.5``, ``(1/2)``, ``1(1/2)``, ``20%``. 读出答案的精确值。

    Raises: ExpressionError where the text is no number or expression.
    """
    return evaluate(parse(rewrite_equation(text)))


def answer_form(
    value: Fraction,
    text: str,
    expression: Expression,
    numbers: Sequence[NumberSpan] | None = None,
) -> AnswerForm:
    """The form that a question asks for, from its words, else from the numbers that the expression uses.

    由题目用词决定答案形式；否则由表达式所用的数决定。

    In this order: percent where 百分之几, 多少% or a rate is asked for (出勤率=？); integer for whole values;
    fraction where 几分之几 or 用分数 is asked for, and for values whose decimals never end; fraction where
    the expression uses fractions, and neither decimals nor percents; else decimal. `numbers` are what the
    slots of the expression count, by default those of `find_numbers`.

    Of right values, this writes 97.4 % in Math23K's training part, 97.8 % in its test part and 95.1 % in
    Ape210k's validation part exactly as published; most of the others are matters of taste, such as 3.6 for
    (18/5) days.
    """
    if _PERCENT_ASKED.search(text) and _ends(value):
        return "percent"
    if value.denominator == 1:
        return "integer"
    if _FRACTION_ASKED.search(text) or not _ends(value):
        return "fraction"
    kinds = set(_kinds(expression, find_numbers(text) if numbers is None else numbers))
    return "fraction" if kinds & {"fraction", "mixed"} and not kinds & {"decimal", "percent"} else "decimal"


def format_answer(
    value: Fraction,
    text: str,
    expression: Expression,
    numbers: Sequence[NumberSpan] | None = None,
) -> str:
    """The answer as the question asks for it, always exact: ``12``, ``0.5``, ``(1/2)``, ``1(1/2)``, ``50%``.

    按题目要求写出答案（总是精确的）。

    A fraction above one is a mixed number, unless the problem itself uses fractions: then ``(3/2)``.
    """
    form = answer_form(value, text, expression, numbers)
    if form == "percent":
        return f"{literal(value * 100)}%"
    if form != "fraction":
        return literal(value)
    in_problem = {span.kind for span in (find_numbers(text) if numbers is None else numbers)}
    return _fraction(value, mixed=not in_problem & {"fraction", "mixed"})


def _ends(value: Fraction) -> bool:
    return "/" not in literal(value)


def _fraction(value: Fraction, mixed: bool) -> str:
    sign = "-" if value < 0 else ""
    top, bottom = abs(value).as_integer_ratio()
    if mixed and top > bottom:
        return f"{sign}{top // bottom}({top % bottom}/{bottom})"
    return f"{sign}({top}/{bottom})"


def _kinds(expression: Expression, numbers: Sequence[NumberSpan]) -> Iterator[str]:
    """How the numbers that an expression uses are written in the problem."""
    if isinstance(expression, Slot):
        yield from (span.kind for span in numbers[expression.index : expression.index + 1])
    elif isinstance(expression, Number):
        written = [span.kind for span in numbers if span.value == expression.value]
        yield from written[:1] or (["decimal"] if expression.value.denominator > 1 else [])
    elif isinstance(expression, Negate):
        yield from _kinds(expression.operand, numbers)
    else:
        yield from _kinds_of_operation(expression, numbers)


def _kinds_of_operation(expression: Operation, numbers: Sequence[NumberSpan]) -> Iterator[str]:
    value = quotient(expression)
    same = [span.kind for span in numbers if span.value == value]
    one_number = [kind for kind in same if kind in ("fraction", "percent")]
    if one_number:
        yield one_number[0]
    else:
        yield from _kinds(expression.left, numbers)
        yield from _kinds(expression.right, numbers)
