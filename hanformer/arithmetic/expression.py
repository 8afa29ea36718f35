"""Arithmetic expressions over exact rationals: trees, a parser with limits, and an evaluator.

精确有理数上的算术表达式：语法树、带限制的解析器与求值器。

Grammar, from the loosest binding to the tightest; ``**`` groups to the right, everything else to the left::

    sum     := product (("+" | "-") product)*
    product := power (("*" | "/") power)*
    power   := ("-" | "+") power | postfix ["**" power]
    postfix := atom ["%"]
    atom    := number | "N" index | "(" sum ")"

Nothing here runs text as code, and no input can exhaust the stack: nesting and depth are limited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from operator import add, mul, sub, truediv
from typing import Final, Literal, TypeAlias, cast

from hanformer.errors import UserError

Operator: TypeAlias = Literal["+", "-", "*", "/", "**"]

PRECEDENCE: Final[dict[str, int]] = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 3}
MAX_DEPTH: Final = 250
"""Levels of a tree. A walk over a tree recurses once or twice a level, so this bound protects the stack."""


class ExpressionError(UserError):
    """An expression that cannot be read, built or evaluated; the message is one line.

    无法解析、构造或求值的表达式；错误消息只有一行。
    """


@dataclass(frozen=True)
class Limits:
    """How large an expression, and each number on the way to its value, may be.

    表达式及其中间结果的规模上限。

    length: characters of text; depth: nested brackets, signs and right operands; digits: decimal digits of a
    numerator or denominator; exponent: the largest absolute exponent.
    """

    length: int = 1000
    depth: int = 100
    digits: int = 300
    exponent: int = 100


DEFAULT_LIMITS: Final = Limits()
"""Limits that every equation of Math23K and Ape210k keeps. 默认上限。"""


@dataclass(frozen=True)
class Number:
    """An exact number. 精确的数。"""

    value: Fraction
    depth: int = field(default=1, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class Slot:
    """The number of the problem with this index, written ``N0``, ``N1``, ... 题目中的第几个数。"""

    index: int
    depth: int = field(default=1, init=False, repr=False, compare=False)


@dataclass(frozen=True)
class Negate:
    """The operand with the other sign. 取相反数。"""

    operand: Expression
    depth: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _checked_depth(self.operand.depth + 1))


@dataclass(frozen=True)
class Operation:
    """Two operands joined by an operator. 二元运算。

    Raises: ExpressionError for a tree of more than MAX_DEPTH levels.
    """

    operator: Operator
    left: Expression
    right: Expression
    depth: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _checked_depth(max(self.left.depth, self.right.depth) + 1))


Expression: TypeAlias = Number | Slot | Negate | Operation


def _checked_depth(depth: int) -> int:
    if depth > MAX_DEPTH:
        raise ExpressionError(f"an expression may have at most {MAX_DEPTH} levels; write a shorter one")
    return depth


def number(value: int | str | Fraction) -> Number:
    """A Number from an integer, a fraction or text such as ``3/4`` or ``0.75``. 由整数、分数或文本构造数。"""
    return Number(Fraction(value))


def leaves(expression: Expression) -> Iterator[Number | Slot]:
    """The numbers and slots of a tree, from left to right. 从左到右给出叶子。"""
    waiting: list[Expression] = [expression]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Operation):
            waiting += [node.right, node.left]
        elif isinstance(node, Negate):
            waiting.append(node.operand)
        else:
            yield node


# ---------------------------------------------------------------- reading

_NUMBER = r"[0-9]+\.[0-9]+|[0-9]+\.?|\.[0-9]+"
_PLAIN = re.compile(rf"\s*(?:({_NUMBER}|N[0-9]+|\*\*|[-+*/()%])|(\S))")
_WRITTEN = re.compile(rf"\s*(?:([0-9]+\([0-9]+/[0-9]+\)|{_NUMBER}|N[0-9]+|\*\*|[-+*/()%])|(\S))")
# Groups: sign; whole, top, bottom of 1(1/2) and (1/2); number, percent; top, bottom of 1/2.
_LITERAL = re.compile(rf"(-?)(?:([0-9]+)?\(([0-9]+)/([0-9]+)\)|({_NUMBER})(%?)|([0-9]+)/([0-9]+))")
_SLOT = re.compile(r"N([0-9]{1,4})")


def excerpt(text: str, width: int = 40) -> str:
    """The beginning of a text as one printable line, for messages. 错误消息中使用的单行摘录。"""
    return repr(text if len(text) <= width else text[:width] + "...")


def parse(text: str, limits: Limits = DEFAULT_LIMITS) -> Expression:
    """Read an expression: decimals, ``+ - * / **``, brackets, a sign, postfix ``%`` and slots ``N0``.

    解析算术表达式。

    ``20%`` is the number 1/5; ``(N0+1)%`` is a division by 100.
    Raises: ExpressionError where the text is no expression, or exceeds the limits.
    """
    return parse_tokens(_tokens(text, _PLAIN, limits), limits)


def parse_written(text: str, limits: Limits = DEFAULT_LIMITS) -> Expression:
    """Read an expression in which a mixed number ``1(1/2)`` is one number, as data sets write it.

    按数据集的写法解析：带分数 ``1(1/2)`` 是一个数。

    Raises: ExpressionError, as `parse`.
    """
    return parse_tokens(_tokens(text, _WRITTEN, limits), limits)


def _tokens(text: str, pattern: re.Pattern[str], limits: Limits) -> list[str]:
    if len(text) > limits.length:
        raise ExpressionError(f"an expression may have {limits.length} characters, this one has {len(text)}")
    tokens = []
    for match in pattern.finditer(text):
        if match[2]:
            where = f"{match[2]!r} at character {match.start(2) + 1}"
            raise ExpressionError(f"{excerpt(text)}: {where} belongs to no expression")
        tokens.append(match[1])
    return tokens


def parse_tokens(tokens: Sequence[str], limits: Limits = DEFAULT_LIMITS) -> Expression:
    """Read an expression from its tokens, where a number may also be one token such as ``1/3`` or ``-2``.

    从记号序列解析表达式。

    Raises: ExpressionError, as `parse`.
    """
    parser = _Parser(tokens, limits)
    expression = parser.expression(1)
    if parser.place < len(tokens):
        raise parser.error("an operator or the end")
    return expression


class _Parser:
    """Precedence climbing: `expression` recurses for brackets, signs and right operands alone."""

    def __init__(self, tokens: Sequence[str], limits: Limits) -> None:
        self.tokens = [*tokens, ""]
        self.limits = limits
        self.place = 0
        self.nesting = 0

    def peek(self) -> str:
        return self.tokens[self.place]

    def take(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1]

    def error(self, expected: str) -> ExpressionError:
        where = f"{self.peek()!r} at token {self.place + 1}" if self.peek() else "the end"
        return ExpressionError(f"{excerpt(''.join(self.tokens))}: expected {expected}, found {where}")

    def expression(self, floor: int) -> Expression:
        self.nesting += 1
        if self.nesting > self.limits.depth:
            raise ExpressionError(f"brackets and signs may nest {self.limits.depth} deep; this nests deeper")
        left = self.operand()
        while PRECEDENCE.get(self.peek(), 0) >= floor:
            operator = cast(Operator, self.take())
            groups_left = operator != "**"
            left = Operation(operator, left, self.expression(PRECEDENCE[operator] + groups_left))
        self.nesting -= 1
        return left

    def operand(self) -> Expression:
        if self.peek() in ("-", "+"):
            sign = self.take()
            signed = self.expression(PRECEDENCE["**"])
            return Negate(signed) if sign == "-" else signed
        operand = self.bracket() if self.peek() == "(" else self.leaf()
        if self.peek() == "%":
            self.take()
            return _percent(operand)
        return operand

    def bracket(self) -> Expression:
        self.take()
        inner = self.expression(1)
        if self.peek() != ")":
            raise self.error("')'")
        self.take()
        return inner

    def leaf(self) -> Expression:
        leaf = read_leaf(self.peek(), self.limits)
        if leaf is None:
            raise self.error("a number or '('")
        self.take()
        return leaf


def _percent(operand: Expression) -> Expression:
    hundred = Fraction(100)
    if isinstance(operand, Number):
        return Number(operand.value / hundred)
    return Operation("/", operand, Number(hundred))


def read_leaf(token: str, limits: Limits = DEFAULT_LIMITS) -> Number | Slot | None:
    """The Number or Slot that one token writes, or None. 一个记号所写的数或槽位。

    Raises: ExpressionError, as `read_literal`.
    """
    if token.startswith("N"):
        slot = _SLOT.fullmatch(token)
        return Slot(int(slot[1])) if slot else None
    value = read_literal(token, limits)
    return None if value is None else Number(value)


def read_literal(token: str, limits: Limits = DEFAULT_LIMITS) -> Fraction | None:
    """The value of one number: ``3``, ``3.5``, ``1/3``, ``(1/3)``, ``1(1/3)``, ``20%``; perhaps with ``-``.

    单个数字写法的值；不是数字时返回 None。

    Raises: ExpressionError for too many digits or a denominator of zero.
    """
    match = _LITERAL.fullmatch(token)
    if match is None:
        return None
    if len(token) > limits.digits:
        raise ExpressionError(f"a number may have {limits.digits} digits, {excerpt(token)} has more")
    if token.isdecimal():
        return Fraction(int(token))  # the common case, without the steps below
    sign, whole, top, bottom, plain, percent, bare_top, bare_bottom = match.groups()
    divisor = int(bottom or bare_bottom or 1)
    if divisor == 0:
        raise ExpressionError(f"{excerpt(token)} divides by zero")
    value = Fraction(whole or plain or 0) + Fraction(int(top or bare_top or 0), divisor)
    return (-value if sign else value) / (100 if percent else 1)


# ---------------------------------------------------------------- evaluating

_EXACT: Final = {"+": add, "-": sub, "*": mul, "/": truediv}


def evaluate(
    expression: Expression,
    numbers: Sequence[Fraction] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> Fraction:
    """The exact value of an expression; ``numbers[i]`` stands where it says ``Ni``.

    表达式的精确值。

    Raises: ExpressionError for a division by zero, a slot without a number, an exponent that is no integer or
    too large, and for values of more digits than the limits allow.
    """
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Slot):
        if expression.index >= len(numbers):
            raise ExpressionError(f"N{expression.index} is used, but the problem has {len(numbers)} numbers")
        return numbers[expression.index]
    if isinstance(expression, Negate):
        return -evaluate(expression.operand, numbers, limits)
    left = evaluate(expression.left, numbers, limits)
    right = evaluate(expression.right, numbers, limits)
    return apply(expression.operator, left, right, limits)


def apply(
    operator: Operator,
    left: Fraction,
    right: Fraction,
    limits: Limits = DEFAULT_LIMITS,
) -> Fraction:
    """One exact operation under the limits. 在限制之内做一次精确运算。

    Raises: ExpressionError, as `evaluate`.
    """
    if operator == "**":
        return _power(left, right, limits)
    if operator == "/" and right == 0:
        raise ExpressionError("the expression divides by zero")
    value: Fraction = _EXACT[operator](left, right)
    _check_size(_bits(value), limits)
    return value


def _power(base: Fraction, exponent: Fraction, limits: Limits) -> Fraction:
    if exponent.denominator != 1:
        raise ExpressionError("an exponent must be a whole number, because values are exact fractions")
    if abs(exponent) > limits.exponent:
        raise ExpressionError(f"an exponent may be at most {limits.exponent} in size; this one is larger")
    if base == 0 and exponent < 0:
        raise ExpressionError("the expression divides by zero")
    _check_size((_bits(base) - 1) * abs(exponent.numerator), limits)
    return base**exponent.numerator


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _check_size(bits: int, limits: Limits) -> None:
    # A decimal digit holds log2(10) = 3.3219... bits.
    if bits > limits.digits * 3.33:
        raise ExpressionError(f"a value of the expression has more than {limits.digits} digits")
