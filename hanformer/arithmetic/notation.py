"""Ways to write an expression: infix with the fewest brackets, and prefix; as text or as tokens.

表达式的写法：括号最少的中缀式与前缀式。
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, cast

from hanformer.arithmetic.expression import (
    DEFAULT_LIMITS,
    PRECEDENCE,
    Expression,
    ExpressionError,
    Limits,
    Negate,
    Number,
    Operation,
    Operator,
    Slot,
    excerpt,
    parse_tokens,
    read_leaf,
)

NEGATE: Final = "neg"
"""The prefix token of a sign; infix writes ``-``."""

_ATOM: Final = 4
# Right operands that bind this tightly stand bare: a+(b-c) = a+b-c and a*(b/c) = a*b/c, while a-(b+c) and
# a/(b*c) need their brackets, and a**(b**c) groups to the right by itself.
_BARE_RIGHT: Final[dict[str, int]] = {"+": 1, "-": 2, "*": 2, "/": 3, "**": 3}
_BARE_LEFT: Final[dict[str, int]] = {"+": 1, "-": 1, "*": 2, "/": 2, "**": _ATOM}


def literal(value: Fraction) -> str:
    """One number as one token: ``3``, ``0.75`` where the decimal ends, else ``1/3``; with ``-`` if negative.

    把一个数写成一个记号。
    """
    if value.denominator == 1:
        return str(value.numerator)
    places = _decimal_places(value.denominator)
    if places is None:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _decimal_places(denominator: int) -> int | None:
    """Digits after the point of a fraction in lowest terms, or None where they never end."""
    twos = fives = 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    return max(twos, fives) if denominator == 1 else None


def to_infix(expression: Expression, slots: Sequence[str] = ()) -> str:
    """Infix text with the fewest brackets that keep the value; `parse` reads it back.

    括号最少的中缀文本；解析后值不变。

    `slots` says how slots are written, N0 and so on where it does not: ``20%`` and ``1(1/2)`` need no brackets, and
    `parse_written` reads them back.
    A sign is bracketed where it would follow an operator: ``2*(-3)``. A tree that leans left comes back as
    itself; ``a+(b-c)`` comes back as ``a+b-c``, and a number such as 1/3 as a division.
    """
    written = {f"N{index}": text for index, text in enumerate(slots)}
    return "".join(written.get(token, token) for token in to_infix_tokens(_spelled_out(expression)))


def _spelled_out(expression: Expression) -> Expression:
    """Numbers that text can only write with an operator become that operation."""
    if isinstance(expression, Operation):
        return Operation(expression.operator, _spelled_out(expression.left), _spelled_out(expression.right))
    if isinstance(expression, Negate):
        return Negate(_spelled_out(expression.operand))
    if isinstance(expression, Slot) or (expression.value >= 0 and "/" not in literal(expression.value)):
        return expression
    if expression.value < 0:
        return Negate(_spelled_out(Number(-expression.value)))
    top, bottom = expression.value.as_integer_ratio()
    return Operation("/", Number(Fraction(top)), Number(Fraction(bottom)))


def to_infix_tokens(expression: Expression) -> list[str]:
    """`to_infix` as tokens; every number is one token, see `literal`. 中缀记号序列，每个数一个记号。"""
    return _infix(expression)[0]


def _infix(expression: Expression) -> tuple[list[str], int]:
    """The tokens of a tree and how tightly its loosest operator binds."""
    if isinstance(expression, Number):
        return [literal(expression.value)], _ATOM
    if isinstance(expression, Slot):
        return [f"N{expression.index}"], _ATOM
    if isinstance(expression, Negate):
        tokens, binding = _infix(expression.operand)
        # -(a*b) = (-a)*b, so a product needs no brackets; what it may be written into is a product.
        return ["-", *_bracketed(tokens, binding < 2 or tokens[0].startswith("-"))], 2
    operator = expression.operator
    left, left_binding = _infix(expression.left)
    right, right_binding = _infix(expression.right)
    left = _bracketed(left, left_binding < _BARE_LEFT[operator])
    right = _bracketed(right, right_binding < _BARE_RIGHT[operator] or right[0].startswith("-"))
    return [*left, operator, *right], PRECEDENCE[operator]


def _bracketed(tokens: list[str], needed: bool) -> list[str]:
    return ["(", *tokens, ")"] if needed else tokens


def from_infix_tokens(tokens: Sequence[str], limits: Limits = DEFAULT_LIMITS) -> Expression:
    """The tree of infix tokens. 由中缀记号序列得到语法树。

    Raises: ExpressionError where the tokens are no expression.
    """
    return parse_tokens(tokens, limits)


def to_prefix(expression: Expression) -> list[str]:
    """Prefix (Polish) tokens: operator, left, right; a sign is ``neg``. 前缀（波兰式）记号序列。

    Every tree has exactly one such writing: ``from_prefix(to_prefix(tree)) == tree``.
    """
    tokens: list[str] = []
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Operation):
            tokens.append(node.operator)
            waiting += [node.right, node.left]
        elif isinstance(node, Negate):
            tokens.append(NEGATE)
            waiting.append(node.operand)
        else:
            tokens.append(f"N{node.index}" if isinstance(node, Slot) else literal(node.value))
    return tokens


def from_prefix(tokens: Sequence[str], limits: Limits = DEFAULT_LIMITS) -> Expression:
    """The tree of prefix tokens. 由前缀记号序列得到语法树。

    Raises: ExpressionError where operands are missing or left over, or a token is unknown.
    """
    done: list[Expression] = []
    for token in reversed(tokens):
        arity = 2 if token in PRECEDENCE else 1 if token == NEGATE else 0
        if len(done) < arity:
            raise ExpressionError(f"the prefix expression has too few operands for {token!r}")
        if arity == 2:
            done.append(Operation(cast(Operator, token), done.pop(), done.pop()))
        elif arity == 1:
            done.append(Negate(done.pop()))
        else:
            done.append(_leaf(token, limits))
    if len(done) != 1:
        raise ExpressionError(f"a prefix expression is one tree, these {len(tokens)} tokens make {len(done)}")
    return done[0]


def _leaf(token: str, limits: Limits) -> Expression:
    leaf = read_leaf(token, limits)
    if leaf is None:
        raise ExpressionError(f"{excerpt(token)} is no token of an expression")
    return leaf
