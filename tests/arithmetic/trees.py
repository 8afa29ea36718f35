"""Random expression trees, and naive readings of them, for the tests of this room."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from fractions import Fraction

from hypothesis import strategies as st

from hanformer.arithmetic.expression import Expression, Negate, Number, Operation, Slot

SLOTS = 4
NOISE = "0123456789+-*/().,%:=xN[]^{}\"'\\ \n\t\0\x1b题数半两三十百千万分之几￥％０９（）／．π½²٣\u200b\ufeff\U0001f600"
"""Characters for fuzzing: digits and operators of several scripts, words, controls, an emoji."""

whole = st.integers(0, 30).map(Fraction)
decimals = st.integers(0, 3000).map(lambda hundredths: Fraction(hundredths, 100))
any_value = st.builds(Fraction, st.integers(-40, 40), st.integers(1, 12))
slots = st.builds(Slot, st.integers(0, SLOTS - 1))


def trees(values: st.SearchStrategy[Fraction], powers: bool = True) -> st.SearchStrategy[Expression]:
    """Trees over slots and numbers of `values`; exponents are 0, 1, 2 or 3."""

    def grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        joined = st.builds(Operation, st.sampled_from("+-*/"), inner, inner)
        exponents = st.integers(0, 3).map(lambda power: Number(Fraction(power)))
        power = st.builds(Operation, st.just("**"), inner, exponents)
        return st.one_of(joined, joined, joined, st.builds(Negate, inner), *([power] if powers else []))

    return st.recursive(st.one_of(st.builds(Number, values), slots), grow, max_leaves=9)


slot_values = st.lists(any_value, min_size=SLOTS, max_size=SLOTS)


def naive_value(tree: Expression, numbers: Sequence[Fraction]) -> Fraction | None:
    """The value by Python's fractions alone; None where it divides by zero."""
    try:
        return _value(tree, numbers)
    except ZeroDivisionError:
        return None


def _value(tree: Expression, numbers: Sequence[Fraction]) -> Fraction:
    if isinstance(tree, Number):
        return tree.value
    if isinstance(tree, Slot):
        return numbers[tree.index]
    if isinstance(tree, Negate):
        return 0 - _value(tree.operand, numbers)
    left, right = _value(tree.left, numbers), _value(tree.right, numbers)
    if tree.operator == "**":
        product = Fraction(1)
        for _ in range(int(right)):
            product = product * left
        return product
    return {"+": Fraction.__add__, "-": Fraction.__sub__, "*": Fraction.__mul__, "/": Fraction.__truediv__}[
        tree.operator
    ](left, right)


def python_value(text: str) -> Fraction:
    """The value of an expression as Python's own grammar groups it."""
    return _python(ast.parse(text, mode="eval").body, text)


def _python(node: ast.AST, text: str) -> Fraction:
    if isinstance(node, ast.Constant):
        return Fraction(ast.get_source_segment(text, node) or "")
    if isinstance(node, ast.UnaryOp):
        return -_python(node.operand, text) if isinstance(node.op, ast.USub) else _python(node.operand, text)
    assert isinstance(node, ast.BinOp)
    left, right = _python(node.left, text), _python(node.right, text)
    operations = {ast.Add: "__add__", ast.Sub: "__sub__", ast.Mult: "__mul__", ast.Div: "__truediv__"}
    if isinstance(node.op, ast.Pow):
        return Fraction(left ** int(right))
    return getattr(left, operations[type(node.op)])(right)
