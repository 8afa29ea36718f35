"""One writing for all expressions that differ in order and brackets alone, and random writings of one.

把仅在次序与括号上不同的表达式化为同一写法，以及随机生成等价写法。

A chain is a sum or a product with its signs: ``a-(b+c)`` is the sum of +a, -b and -c; ``a/(b*c)`` is the
product of a, 1/b and 1/c. It is a list of (forward, operand), where forward means added or multiplied:

* `normalise` sorts a chain, forward operands first, and writes it from the left: ``a-b-c``, ``a/b/c``;
* `equivalents` shuffles it and groups operands at random: ``a-(c+b)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Final, TypeAlias

from hanformer.arithmetic.expression import Expression, Negate, Number, Operation, Operator, Slot, leaves
from hanformer.arithmetic.notation import to_prefix

Chain: TypeAlias = list[tuple[bool, Expression]]

_SUM: Final[tuple[Operator, Operator]] = ("+", "-")
_PRODUCT: Final[tuple[Operator, Operator]] = ("*", "/")
_ZERO: Final = Number(Fraction(0))
_ONE: Final = Number(Fraction(1))


def normalise(expression: Expression) -> Expression:
    """The canonical writing: the same value for all slot values, the same result for all writings of a chain.

    规范写法：任意槽位取值下值不变，同一链的各种写法结果相同。

    Chains are flattened and sorted by `operand_order`: ``N1+N0`` gives ``N0+N1``, and ``N0-(N1-N2)`` gives
    ``N0+N2-N1``. Signs move out of products, ``+0`` and ``*1`` go. Nothing is expanded or computed.
    Normalising twice changes nothing. Where the expression divides by zero, the canonical writing may have a
    value: ``1/(1/N0)`` is N0.
    Raises: ExpressionError where the flat chain is deeper than a tree may be.
    """
    if isinstance(expression, Slot) or (isinstance(expression, Number) and expression.value >= 0):
        return expression
    if isinstance(expression, Number):
        return Negate(Number(-expression.value))
    if isinstance(expression, Operation) and expression.operator == "**":
        return Operation("**", normalise(expression.left), normalise(expression.right))
    operators = _chain_operators(expression)
    chain = [
        part
        for forward, operand in _flat(expression, operators)
        for part in _joined([], _flat(normalise(operand), operators), forward)
    ]
    return _canonical_sum(chain) if operators is _SUM else _canonical_product(chain)


def operand_order(expression: Expression) -> tuple[object, ...]:
    """The sort key of operands: by slots from the lowest index, constants last. 操作数的排序键。"""
    keys = [(0, leaf.index) if isinstance(leaf, Slot) else (1, leaf.value) for leaf in leaves(expression)]
    return sorted(keys), to_prefix(expression)


def equivalents(expression: Expression, rng: Random, grouping: float = 0.3) -> Expression:
    """A random writing of the same value: chains shuffled, operands grouped with probability `grouping`.

    随机抽取一个等价写法，用于数据增强。

    Zeros and ones stay, and nothing is expanded: ``N0-N1-N2`` may give ``N0-(N2+N1)``, never ``2*N0-...``.
    Raises: ExpressionError where the writing is deeper than a tree may be.
    """
    if isinstance(expression, Number | Slot):
        return expression
    if isinstance(expression, Negate):
        return Negate(equivalents(expression.operand, rng, grouping))
    if expression.operator == "**":
        left, right = expression.left, expression.right
        return Operation("**", equivalents(left, rng, grouping), equivalents(right, rng, grouping))
    operators = _chain_operators(expression)
    chain = _flat(expression, operators)
    written = [(forward, equivalents(operand, rng, grouping)) for forward, operand in chain]
    return _scattered(written, operators, rng, grouping)


# ---------------------------------------------------------------- chains


def _chain_operators(expression: Negate | Operation) -> tuple[Operator, Operator]:
    return _PRODUCT if isinstance(expression, Operation) and expression.operator in _PRODUCT else _SUM


def _flat(expression: Expression, operators: tuple[Operator, Operator]) -> Chain:
    """The operands of the chain at the top of a tree, from left to right."""
    if isinstance(expression, Operation) and expression.operator in operators:
        left, right = _flat(expression.left, operators), _flat(expression.right, operators)
        return _joined(left, right, expression.operator == operators[0])
    if isinstance(expression, Negate) and operators is _SUM:
        return _turned(_flat(expression.operand, operators))
    return [(True, expression)]


def _turned(chain: Chain) -> Chain:
    return [(not forward, operand) for forward, operand in chain]


def _joined(left: Chain, right: Chain, forward: bool) -> Chain:
    return left + (right if forward else _turned(right))


def _canonical_sum(chain: Chain) -> Expression:
    chain = [(forward, operand) for forward, operand in chain if operand != _ZERO]
    return _written(_sorted(chain), _SUM) if chain else _ZERO


def _canonical_product(chain: Chain) -> Expression:
    # A sign on a factor is a sign on the product, whichever side of the fraction bar it stands on.
    negative = sum(isinstance(operand, Negate) for _, operand in chain) % 2 == 1
    chain = [
        part
        for forward, operand in chain
        for part in _joined([], _flat(_unsigned(operand), _PRODUCT), forward)
        if part[1] != _ONE
    ]
    product = _written(_sorted(chain), _PRODUCT) if chain else _ONE
    return Negate(product) if negative else product


def _unsigned(operand: Expression) -> Expression:
    return operand.operand if isinstance(operand, Negate) else operand


def _sorted(chain: Chain) -> Chain:
    return sorted(chain, key=lambda part: (not part[0], operand_order(part[1])))


def _written(chain: Sequence[tuple[bool, Expression]], operators: tuple[Operator, Operator]) -> Expression:
    """A chain from the left; the first operand is a forward one, if there is any."""
    if not chain[0][0]:
        if operators is _SUM:
            return Negate(_written(_turned(list(chain)), operators))
        chain = [(True, _ONE), *chain]
    result = chain[0][1]
    for forward, operand in chain[1:]:
        result = Operation(operators[0] if forward else operators[1], result, operand)
    return result


# ---------------------------------------------------------------- random writings


def _scattered(
    chain: Chain, operators: tuple[Operator, Operator], rng: Random, grouping: float
) -> Expression:
    """A chain in random order, in which random pairs of operands were joined in brackets."""
    chain = rng.sample(chain, len(chain))
    while len(chain) > 2 and rng.random() < grouping:
        group = sorted(chain[:2], key=lambda part: not part[0])
        forward = group[0][0]
        chain = [*chain[2:], (forward, _written(group if forward else _turned(group), operators))]
        rng.shuffle(chain)
    first = next((place for place, (forward, _) in enumerate(chain) if forward), 0)
    return _written([chain[first], *chain[:first], *chain[first + 1 :]], operators)
