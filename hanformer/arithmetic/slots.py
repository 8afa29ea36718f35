"""The numbers of a problem as slots: where they stand in the text, and which slots an equation uses.

题目中的数作为槽位：在原文中的位置，以及方程所用的槽位。

Chinese numerals are an option, off by default. Math23K was published with nearly all of them made digits
(初3年级), so slots for digits and `CONSTANTS` express 22,155 of its 22,162 training problems and all of the
1,000 test problems; Chinese numerals add nothing but 0.25 idle slots a problem. Ape210k keeps 两 and 三 in
its texts: of its 5,000 validation problems, 3,017 become 3,250.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias, cast

from hanformer.arithmetic.expression import Expression, Negate, Number, Operation, Slot, read_literal
from hanformer.arithmetic.numerals import find_chinese_numbers

NumberKind: TypeAlias = Literal["integer", "decimal", "fraction", "mixed", "percent"]

# Slots alone express 16,950 of the 22,162 training problems of Math23K, with 1 as well 21,924, with 3.14 as well
# 22,155, which is 99.97 % (test: 756, 993 and 1,000 of 1,000); cleaning drops the other 7. On the 5,000 of Ape210k
# validation it is 2,253, 2,965 and 3,017; with 2 as well 3,540, and with 3, 4, 10, 60, 100 and 1000 as well 4,140:
# pass those to `align` if there are problems to learn them from.
CONSTANTS: Final[tuple[Fraction, ...]] = (Fraction(1), Fraction(157, 50))
"""Numbers that an expression may use although the problem does not name them. 题目之外可用的常数。"""


@dataclass(frozen=True)
class NumberSpan:
    """One number of a text: ``text[start:end]`` is how it is written, `value` what it is. 文本中的一个数。"""

    start: int
    end: int
    text: str
    value: Fraction
    kind: NumberKind


# One character for one character, so that offsets stay true.
_HALF_WIDTH: Final = str.maketrans("０１２３４５６７８９％／（）", "0123456789%/()")
_FULL_WIDTH_POINT: Final = re.compile("(?<=[０-９])．(?=[０-９])")

_WHOLE: Final = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+"
_NUMBERS: Final = re.compile(
    r"(?P<mixed>[0-9]+\([0-9]+/0*[1-9][0-9]*\))"
    r"|(?P<fraction>\([0-9]+/0*[1-9][0-9]*\)"
    # Without brackets, only where the words say that it is a part of something: 全程的9/16.
    r"|(?<=[的了占是剩])[0-9]+/0*[1-9][0-9]*(?![0-9.+*/%(-]|的[商积和差]))"
    rf"|(?P<percent>(?:{_WHOLE})(?:\.[0-9]+)?%)"
    rf"|(?P<decimal>(?:{_WHOLE})\.[0-9]+)"
    rf"|(?P<integer>{_WHOLE})"
)


def find_numbers(text: str, chinese_numerals: bool = False) -> list[NumberSpan]:
    """The numbers of an original text in order: ``3``, ``1,000``, ``3.5``, ``(1/2)``, ``1(1/2)``, ``20%``.

    按出现顺序找出原文中的数。

    Each is one exact fraction. A bare ``a/b`` is two numbers, because the data sets write divisions so
    (12/600的商), unless the word before makes it a fraction: 全程的9/16. Full-width digits count as digits;
    units are not converted. `chinese_numerals` adds 两, 十二, 三分之一, 一半, but not 一, nearly always an
    article.
    """
    half = _FULL_WIDTH_POINT.sub(".", text).translate(_HALF_WIDTH)
    spans = [_span(text, match) for match in _NUMBERS.finditer(half)]
    if not chinese_numerals:
        return spans
    chinese = [
        NumberSpan(start, end, text[start:end], value, cast(NumberKind, kind))
        for start, end, value, kind in find_chinese_numbers(half)
    ]
    # 百分之20 and 3分之1 hold digits: the longer reading wins.
    alone = [span for span in spans if not any(other.start <= span.start < other.end for other in chinese)]
    return sorted(alone + chinese, key=lambda span: span.start)


def as_operand(number: NumberSpan) -> str:
    """How a number stands in an expression: as the text writes it, a fraction in brackets. 数在算式中的写法。"""
    text = number.text.translate(_HALF_WIDTH).replace("．", ".").replace(",", "")
    if read_literal(text) != number.value:  # Chinese numerals
        text = str(number.value)
    return f"({text})" if "/" in text and "(" not in text else text


def _span(text: str, match: re.Match[str]) -> NumberSpan:
    value = _exact(match[0].replace(",", ""))
    kind = cast(NumberKind, match.lastgroup)
    return NumberSpan(match.start(), match.end(), text[match.start() : match.end()], value, kind)


def _exact(written: str) -> Fraction:
    value = read_literal(written)
    assert value is not None, written
    return value


def quotient(node: Operation) -> Fraction | None:
    """The value of a division of two numbers, perhaps a fraction of the problem; else None. 两数之商。"""
    if node.operator != "/" or not isinstance(node.left, Number) or not isinstance(node.right, Number):
        return None
    return node.left.value / node.right.value if node.right.value else None


def align(
    expression: Expression,
    numbers: Sequence[NumberSpan],
    constants: Sequence[Fraction] = CONSTANTS,
) -> Expression | None:
    """The expression with slots for its numbers; None where one is neither in the problem nor a constant.

    把表达式中的数换成槽位；若某数既不在题目中也不是常数，返回 None。

    Numbers are found by value. Of several with one value, those written the same way come first (``1/2`` as a
    fraction, 2 as an integer), of these the first that is not used yet, and when all are used the first: in
    每天3时，共3天 the equation 3*3 is N0*N1. A division of two numbers is a fraction of the problem if it
    has such a fraction, else a division. Any other number must be one of `constants`.
    """
    return _Alignment(numbers, constants).visit(expression)


class _Alignment:
    def __init__(self, numbers: Sequence[NumberSpan], constants: Sequence[Fraction]) -> None:
        self.numbers = numbers
        self.constants = frozenset(constants)
        self.used: set[int] = set()

    def visit(self, node: Expression) -> Expression | None:
        if isinstance(node, Operation):
            return self.fraction(node) or self.operation(node)
        if isinstance(node, Negate):
            operand = self.visit(node.operand)
            return None if operand is None else Negate(operand)
        if isinstance(node, Slot):
            return node
        slot = self.slot(node.value, "integer" if node.value.denominator == 1 else None)
        return slot or (node if node.value in self.constants else None)

    def operation(self, node: Operation) -> Expression | None:
        left = self.visit(node.left)
        right = None if left is None else self.visit(node.right)
        return None if left is None or right is None else Operation(node.operator, left, right)

    def fraction(self, node: Operation) -> Slot | None:
        value = quotient(node)
        found = [] if value is None else self.places(value)
        return self.take([place for place in found if self.numbers[place].kind == "fraction"])

    def slot(self, value: Fraction, kind: NumberKind | None) -> Slot | None:
        found = self.places(value)
        return self.take([place for place in found if self.numbers[place].kind == kind] or found)

    def places(self, value: Fraction) -> list[int]:
        return [place for place, span in enumerate(self.numbers) if span.value == value]

    def take(self, places: list[int]) -> Slot | None:
        if not places:
            return None
        place = next((place for place in places if place not in self.used), places[0])
        self.used.add(place)
        return Slot(place)
