"""The parser and the evaluator against Python's own grammar and fractions, and what they refuse."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.arithmetic.expression import (
    MAX_DEPTH,
    Expression,
    ExpressionError,
    Limits,
    Negate,
    Number,
    Operation,
    Slot,
    evaluate,
    leaves,
    number,
    parse,
    parse_tokens,
    parse_written,
    read_literal,
)
from tests.arithmetic.trees import (
    NOISE,
    any_value,
    decimals,
    naive_value,
    python_value,
    slot_values,
    trees,
    whole,
)

numerals = st.one_of(whole.map(str), decimals.map(lambda value: f"{float(value):.2f}"))


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    spaced = st.sampled_from(
        ["{}+{}", "{} - {}", "{}*{}", "{} / {}", "({})*({})", "-{}+{}", "({}-{})", "(-{})**2-{}"]
    )
    return st.builds(lambda form, left, right: form.format(left, right), spaced, inner, inner)


texts = st.recursive(numerals, _joined, max_leaves=8)


@given(texts)
def test_text_has_the_value_that_python_gives_it(text: str) -> None:
    # Python reads 03 as a mistake, we as 3; numerals here have no leading zeros.
    try:
        expected = python_value(text)
    except ZeroDivisionError:
        with pytest.raises(ExpressionError, match="divides by zero"):
            evaluate(parse(text))
        return
    assert evaluate(parse(text)) == expected


@given(trees(any_value), slot_values)
def test_trees_have_the_value_of_naive_fractions(tree: Expression, numbers: list[Fraction]) -> None:
    expected = naive_value(tree, numbers)
    if expected is None:
        with pytest.raises(ExpressionError, match="divides by zero"):
            evaluate(tree, numbers)
    else:
        try:
            value = evaluate(tree, numbers)
        except ExpressionError as error:
            assert "more than 300 digits" in str(error)
        else:
            assert value == expected


@given(texts)
def test_value_is_near_the_float(text: str) -> None:
    try:
        value = evaluate(parse(text))
        naive = float(_float(parse(text)))
    except (ExpressionError, ZeroDivisionError, OverflowError):
        return
    scale = max(
        1.0, abs(naive), *(abs(float(leaf.value)) for leaf in leaves(parse(text)) if isinstance(leaf, Number))
    )
    assert math.isclose(float(value), naive, rel_tol=1e-6, abs_tol=1e-6 * scale) or abs(naive) > 1e12


def _float(tree: Expression) -> float:
    if isinstance(tree, Operation):
        left, right = _float(tree.left), _float(tree.right)
        if tree.operator == "**":
            return left**right
        return {"+": left + right, "-": left - right, "*": left * right}.get(tree.operator) or (
            left / right if tree.operator == "/" else 0.0
        )
    return -_float(tree.operand) if isinstance(tree, Negate) else float(tree.value)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1-2-3", -4),
        ("8/4/2", 1),
        ("2**3**2", 512),
        ("-2**2", -4),
        ("2**-1", Fraction(1, 2)),
        ("2*-3", -6),
        ("20%", Fraction(1, 5)),
        ("(1+1)%*100", 2),
        (".5+5.", Fraction(11, 2)),
        (" ( 1 + 2 ) * 3 ", 9),
        ("+3-+2", 1),
        ("007", 7),
    ],
)
def test_grammar(text: str, value: Fraction) -> None:
    assert evaluate(parse(text)) == value


def test_slots_stand_for_numbers() -> None:
    tree = parse("N0*(1-N1)")
    assert tree == Operation("*", Slot(0), Operation("-", number(1), Slot(1)))
    assert evaluate(tree, [Fraction(50), Fraction(1, 5)]) == 40
    assert list(leaves(tree)) == [Slot(0), number(1), Slot(1)]
    with pytest.raises(ExpressionError, match="N1 is used, but the problem has 1 numbers"):
        evaluate(tree, [Fraction(50)])


def test_written_mixed_numbers_are_one_number() -> None:
    assert parse_written("2*1(1/2)") == Operation("*", number(2), number("3/2"))
    assert parse_written("(1/2)*20%") == Operation("*", Operation("/", number(1), number(2)), number("1/5"))
    with pytest.raises(ExpressionError, match="expected an operator"):
        parse("2*1(1/2)")


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("3", 3),
        ("3.5", "7/2"),
        ("1/3", "1/3"),
        ("(1/3)", "1/3"),
        ("1(1/3)", "4/3"),
        ("20%", "1/5"),
        ("-2", -2),
    ],
)
def test_one_number(token: str, value: int | str) -> None:
    assert read_literal(token) == Fraction(value)


@pytest.mark.parametrize("token", ["", "N0", "1/", "1.2.3", "٣", "1//2", "(1/2", "x", "1 2", "½", "²", "1e5"])
def test_no_number(token: str) -> None:
    assert read_literal(token) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number"),
        ("1+", "found the end"),
        ("(1", r"expected '\)'"),
        ("1)", "expected an operator or the end"),
        ("1 2", "expected an operator"),
        ("2x", "'x' at character 2"),
        ("__import__('os')", "belongs to no expression"),
        ("(" * 300 + "1", "nest 100 deep"),
        ("-" * 300 + "1", "nest 100 deep"),
        ("2**" * 300 + "1", "nest 100 deep"),
        ("(" * 10000, "1000 characters"),
        ("1" + "+1" * 400, f"{MAX_DEPTH} levels"),
        ("1" * 400, "300 digits"),
        ("N99999", "expected a number"),
        ("1/0", "divides by zero"),
        ("0**-1", "divides by zero"),
        ("9**9**9", "exponent"),
        ("9**99**9", "exponent"),
        ("(9**99)**99", "300 digits"),
        ("2**0.5", "whole number"),
        ("10**100*10**100*10**100*10**100", "300 digits"),
    ],
)
def test_refusals_are_one_line(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message) as caught:
        evaluate(parse(text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_ten_thousand_brackets_under_wide_limits() -> None:
    with pytest.raises(ExpressionError, match="nest 100 deep"):
        parse("(" * 10000 + "1" + ")" * 10000, Limits(length=10**6))


def test_trees_cannot_be_built_deeper_than_walks_can_go() -> None:
    tree: Expression = Slot(0)
    with pytest.raises(ExpressionError, match="levels"):
        for _ in range(MAX_DEPTH):
            tree = Negate(tree)
    assert evaluate(tree, [Fraction(1)]) == (-1) ** (MAX_DEPTH - 1)


@given(st.one_of(st.text(NOISE, max_size=30), st.text("0123456789.+-*/()%N ", max_size=60)))
def test_any_text_gives_a_value_or_an_error(text: str) -> None:
    for read in (parse, parse_written):
        try:
            value = evaluate(read(text), [Fraction(2)] * 3)
        except ExpressionError as error:
            assert not re.search(r"[\n\r]", str(error))
        else:
            assert isinstance(value, Fraction)


@given(
    st.lists(
        st.one_of(st.sampled_from([*"+-*/()%", "**", "1/2", "-3", "N0", "7"]), st.text(NOISE, max_size=4)),
        max_size=9,
    )
)
def test_any_tokens_give_a_tree_or_an_error(tokens: list[str]) -> None:
    with suppress(ExpressionError):
        parse_tokens(tokens)
