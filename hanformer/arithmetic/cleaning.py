"""The cleaning of Math23K and Ape210k: one way to write numbers, wrong rows out, redundant brackets away.

Math23K 与 Ape210k 的清洗：统一写法、剔除错误行、去掉多余括号。

The rules, in this order (the first two are Math23K's):

0. ``[ ]`` in equations become ``( )`` and ``^`` becomes ``**``;
1. mixed numbers ``a(b/c)`` become ``(a+b/c)`` in text, equation and answer;
2. a digit right before ``(`` gets a ``+`` in between, in equation and answer;
3. ``(a/b)`` becomes ``a/b`` in the text;
4. ``a%`` becomes ``(a/100)`` in equation and answer;
5. ``:`` becomes ``/``, and a left-over ``%`` becomes ``/100``, in equation and answer;
6. a leading ``x=`` goes;
7. the row stays if its equation gives its answer to 6 decimals;
8. pairs of brackets that do not change the value go.

Source: kexue.fm 7809.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from hanformer.arithmetic.expression import (
    DEFAULT_LIMITS,
    Expression,
    ExpressionError,
    evaluate,
    parse,
    parse_written,
)
from hanformer.arithmetic.records import Problem

_MIXED = re.compile(r"([0-9]+)\(([0-9]+/[0-9]+)\)")
_BRACKETS = str.maketrans("[]", "()")
_DIGIT_BRACKET_BUT_MIXED = re.compile(r"([0-9])\((?![0-9]+/[0-9]+\))")
_DIGIT_BRACKET = re.compile(r"([0-9])\(")
_FRACTION = re.compile(r"\(([0-9]+/[0-9]+)\)")
_PERCENT = re.compile(r"([.0-9]+)%")


@dataclass(frozen=True)
class Dropped:
    """A row that cleaning refuses: its id, why, and the row as it was read. 被剔除的行及原因。"""

    id: str
    reason: str
    row: Problem


@dataclass(frozen=True)
class Cleaning:
    """What cleaning made of many rows. 清洗结果。

    originals: the rows that stay, as read; slots are cut from these. dropped: the others, with reasons.
    """

    originals: list[Problem]
    dropped: list[Dropped]

    @cached_property
    def kept(self) -> list[Problem]:
        """``kept[i]`` is ``originals[i]`` rewritten for the raw-number layout, made when first asked for.

        保留题目的改写形式（首次访问时生成）。
        """
        return [rewrite(problem) for problem in self.originals]


def clean_all(problems: Iterable[Problem]) -> Cleaning:
    """Check every problem by rule 7; `Cleaning.kept` then rewrites those that stay. 清洗所有题目。"""
    result = Cleaning([], [])
    for problem in problems:
        reason = fault(problem)
        if reason:
            result.dropped.append(Dropped(problem.id, reason, problem))
        else:
            result.originals.append(problem)
    return result


def clean(problem: Problem) -> Problem | Dropped:
    """One problem rewritten by rules 0 to 8, or dropped with the reason. 清洗一道题。"""
    reason = fault(problem)
    return Dropped(problem.id, reason, problem) if reason else rewrite(problem)


def fault(problem: Problem) -> str:
    """Why rule 7 refuses a problem; empty if it does not. 剔除原因；合格则为空串。"""
    if problem.answer is None:
        return "there is no answer"
    # The rewriting rules are regular expressions: what `parse` would refuse for its length must not reach them.
    if max(len(problem.equation), len(problem.answer)) > DEFAULT_LIMITS.length:
        return f"equation or answer of more than {DEFAULT_LIMITS.length} characters"
    try:
        value = evaluate(parse(rewrite_equation(problem.equation)))
    except ExpressionError as error:
        return f"equation: {error}"
    try:
        answer = evaluate(parse(rewrite_equation(problem.answer)))
    except ExpressionError as error:
        return f"answer: {error}"
    if equal_to_six(value, answer):
        return ""
    return f"the equation gives {_shown(value)}, the answer says {_shown(answer)}"


def _shown(value: Fraction) -> str:
    # A float cannot hold every value that the limits allow.
    return f"{float(value):.10g}" if abs(value) < 10**300 else "a number of more than 300 digits"


def rewrite(problem: Problem) -> Problem:
    """A problem without fault by rules 0 to 6 and 8. 按规则改写合格的题目。

    Raises: ExpressionError where the equation cannot be evaluated.
    """
    return replace(
        problem,
        text=rewrite_text(problem.text),
        equation=remove_redundant_brackets(rewrite_equation(problem.equation)),
        answer=None if problem.answer is None else rewrite_equation(problem.answer),
    )


def rewrite_text(text: str) -> str:
    """Rules 1 and 3: the numbers of a question as the raw layout writes them. 改写题面中的分数。"""
    return _FRACTION.sub(r"\1", _MIXED.sub(r"(\1+\2)", text))


def rewrite_equation(equation: str) -> str:
    """Rules 0, 1, 2, 4, 5 and 6: an equation or an answer as `parse` reads it. 改写方程或答案。"""
    equation = equation.translate(_BRACKETS).replace("^", "**")
    equation = _MIXED.sub(r"(\1+\2)", equation)
    equation = _DIGIT_BRACKET.sub(r"\1+(", equation)
    equation = _PERCENT.sub(r"(\1/100)", equation)
    equation = equation.replace(":", "/").replace("%", "/100")
    return equation.removeprefix("x=")


def read_equation(equation: str) -> Expression:
    """The tree of an original equation, for slots: a mixed number is one number, and no bracket is removed.

    读取原始方程（用于槽位）：带分数是一个数，括号不动。

    Rule 8 would turn ``14*(1/6)`` into ``14*1/6``, in which 1/6 is no longer one number of the problem.

    Raises: ExpressionError where it is no equation.
    """
    equation = equation.translate(_BRACKETS).replace("^", "**").replace(":", "/").removeprefix("x=")
    return parse_written(_DIGIT_BRACKET_BUT_MIXED.sub(r"\1+(", equation))


def remove_redundant_brackets(equation: str) -> str:
    """Rule 8: remove each pair of brackets without which the value is the same to 6 decimals.

    去掉不影响取值的括号对（按值判断）。

    Pairs are tried in the order of their closing bracket, inner ones first, until none can go. The value
    decides: a pair that would matter for other numbers goes too, if it does not matter for these.
    Raises: ExpressionError where the equation cannot be evaluated.
    """
    value = evaluate(parse(equation))
    shorter = _one_pass(equation, value)
    while shorter != equation:
        equation, shorter = shorter, _one_pass(shorter, value)
    return equation


def _one_pass(equation: str, value: Fraction) -> str:
    for opening, closing in _pairs(equation):
        # Spaces keep the places of the other brackets.
        candidate = f"{equation[:opening]} {equation[opening + 1 : closing]} {equation[closing + 1 :]}"
        if _has_value(candidate, value):
            equation = candidate
    return equation.replace(" ", "")


def _pairs(equation: str) -> list[tuple[int, int]]:
    opened: list[int] = []
    pairs = []
    for place, character in enumerate(equation):
        if character == "(":
            opened.append(place)
        elif character == ")":
            pairs.append((opened.pop(), place))
    return pairs


def _has_value(equation: str, value: Fraction) -> bool:
    try:
        return equal_to_six(evaluate(parse(equation.replace(" ", ""))), value)
    except ExpressionError:
        return False


def equal_to_six(first: Fraction, second: Fraction) -> bool:
    """Whether two values are the same number of millionths once rounded. 四舍五入到六位小数后是否相等。"""
    return round(first * 10**6) == round(second * 10**6)


def is_right(value: Fraction, answer: Fraction) -> bool:
    """Whether a value counts as the answer: equal to 6 decimals, or to a relative 1e-4. 判断答案是否正确。"""
    return equal_to_six(value, answer) or abs(value - answer) * 10**4 <= abs(answer)
