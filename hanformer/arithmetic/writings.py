"""One writing for expressions of equal value: the one that training equations use most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from random import Random

from hanformer.arithmetic.expression import Expression, Negate, Number, Slot
from hanformer.arithmetic.normalise import normalise
from hanformer.arithmetic.notation import to_prefix

#: A Mersenne prime: values are compared modulo it, so that numbers stay small and division is exact.
PRIME = (1 << 61) - 1
_SLOTS = 64
_RANDOM = Random("slots")
_SLOT_VALUES = [_RANDOM.randrange(1, PRIME) for _ in range(_SLOTS)]


def fingerprint(expression: Expression) -> int | None:
    """The value modulo 2⁶¹ − 1 at fixed random slot values; None where it has none.

    在固定随机槽位取值下、模 2⁶¹ − 1 的值，用作表达式的指纹。

    Expressions that are equal for all slot values have equal fingerprints; two that are not agree with a chance
    of about 1e-17 times their degree (Schwartz-Zippel). Powers need a whole exponent below 100.
    """
    if isinstance(expression, Slot):
        return _SLOT_VALUES[expression.index] if expression.index < _SLOTS else None
    if isinstance(expression, Number):
        return _divide(expression.value.numerator % PRIME, expression.value.denominator % PRIME)
    if isinstance(expression, Negate):
        operand = fingerprint(expression.operand)
        return None if operand is None else -operand % PRIME
    if expression.operator == "**":
        return _power(expression.left, expression.right)
    left, right = fingerprint(expression.left), fingerprint(expression.right)
    if left is None or right is None:
        return None
    if expression.operator == "/":
        return _divide(left, right)
    return {"+": left + right, "-": left - right, "*": left * right}[expression.operator] % PRIME


def _divide(top: int, bottom: int) -> int | None:
    return top * pow(bottom, -1, PRIME) % PRIME if bottom else None


def _power(base: Expression, exponent: Expression) -> int | None:
    value = fingerprint(base)
    if value is None or not isinstance(exponent, Number) or exponent.value.denominator != 1:
        return None
    power = int(exponent.value)
    return pow(value, power, PRIME) if 0 <= power < 100 else None


class Writings:
    """Chooses one writing for each set of expressions of equal value, learned from training expressions.

    为取值恒等的一组表达式选定一种写法：训练集中最常见的那种。

    `Writings(expressions)(expression)` normalises; then, where training has expressions of the same fingerprint,
    it takes the most frequent of their canonical writings (on ties, the shortest, then the first in order).
    """

    def __init__(self, expressions: Iterable[Expression]) -> None:
        counts: dict[int, Counter[Expression]] = defaultdict(Counter)
        for expression in map(normalise, expressions):
            mark = fingerprint(expression)
            if mark is not None:
                counts[mark][expression] += 1
        self._chosen = {mark: min(found.items(), key=_rank)[0] for mark, found in counts.items()}

    def __call__(self, expression: Expression) -> Expression:
        """The chosen writing of an expression; its canonical one where its value is new."""
        canonical = normalise(expression)
        mark = fingerprint(canonical)
        return canonical if mark is None else self._chosen.get(mark, canonical)


def _rank(item: tuple[Expression, int]) -> tuple[int, int, list[str]]:
    expression, count = item
    tokens = to_prefix(expression)
    return -count, len(tokens), tokens
