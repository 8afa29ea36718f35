"""Writing an expression and reading it back."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.arithmetic.cleaning import remove_redundant_brackets
from hanformer.arithmetic.expression import Expression, ExpressionError, Number, evaluate, number, parse
from hanformer.arithmetic.notation import (
    from_infix_tokens,
    from_prefix,
    literal,
    to_infix,
    to_infix_tokens,
    to_prefix,
)
from tests.arithmetic.trees import NOISE, any_value, decimals, naive_value, slot_values, trees


@given(trees(any_value))
def test_prefix_round_trip_is_exact(tree: Expression) -> None:
    assert from_prefix(to_prefix(tree)) == tree


@given(trees(any_value), slot_values)
def test_infix_keeps_the_value(tree: Expression, numbers: list[Fraction]) -> None:
    expected = naive_value(tree, numbers)
    for back in (parse(to_infix(tree)), from_infix_tokens(to_infix_tokens(tree))):
        assert naive_value(back, numbers) == expected


@given(trees(decimals))
def test_infix_is_settled_after_one_reading(tree: Expression) -> None:
    text = to_infix(tree)
    assert to_infix(parse(text)) == text
    tokens = to_infix_tokens(tree)
    assert "".join(tokens) == text
    assert to_infix_tokens(from_infix_tokens(tokens)) == tokens


@given(trees(decimals), slot_values)
def test_no_pair_of_brackets_can_go(tree: Expression, numbers: list[Fraction]) -> None:
    tokens = to_infix_tokens(tree)
    for start, end in _pairs(tokens):
        fewer = tokens[:start] + tokens[start + 1 : end] + tokens[end + 1 :]
        # A bracketed sign is a matter of style: 2*(-3) is also read as 2*-3.
        if tokens[start + 1] == "-":
            continue
        assert from_infix_tokens(fewer) != from_infix_tokens(tokens)


def _pairs(tokens: list[str]) -> list[tuple[int, int]]:
    opened: list[int] = []
    return [
        (opened.pop(), place)
        for place, token in enumerate(tokens)
        if token == ")" or (token == "(" and opened.append(place))  # type: ignore[func-returns-value]
    ]


@pytest.mark.parametrize(
    ("text", "shortest"),
    [
        ("(1)+(2)", "1+2"),
        ("1-(2+3)", "1-(2+3)"),
        ("1+(2-3)", "1+2-3"),
        ("8*(4/2)", "8*4/2"),
        ("8/(4*2)", "8/(4*2)"),
        ("8/(4/2)", "8/(4/2)"),
        ("(1+2)*3", "(1+2)*3"),
        ("(2**3)**2", "(2**3)**2"),
        ("2**(3**2)", "2**3**2"),
        ("-(1+2)", "-(1+2)"),
        ("-(1*2)", "-1*2"),
        ("(-1)**2", "(-1)**2"),
        ("2*-3", "2*(-3)"),
        ("-(-3)", "-(-3)"),
        ("1-(-2*3)", "1-(-2*3)"),
        ("20%*N0", "0.2*N0"),
    ],
)
def test_fewest_brackets(text: str, shortest: str) -> None:
    assert to_infix(parse(text)) == shortest


def test_structural_brackets_are_a_superset_of_those_decided_by_value() -> None:
    text = to_infix(parse("((60*45)/(100))-(2-(3+1))"))
    assert remove_redundant_brackets(text).count("(") <= text.count("(")
    assert evaluate(parse(text)) == 29


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("3", "3"),
        ("-3", "-3"),
        ("3/4", "0.75"),
        ("1/3", "1/3"),
        ("-1/8", "-0.125"),
        ("157/50", "3.14"),
        ("1/100", "0.01"),
    ],
)
def test_literals(value: str, text: str) -> None:
    assert literal(Fraction(value)) == text


@given(any_value)
def test_literals_come_back(value: Fraction) -> None:
    assert from_prefix([literal(value)]) == Number(value)


def test_numbers_that_text_cannot_write() -> None:
    assert to_infix(Number(Fraction(-1, 3))) == "-1/3"
    assert to_infix_tokens(number("1/3")) == ["1/3"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "make 0"),
        (["+", "1"], "too few operands"),
        (["1", "2"], "make 2"),
        (["neg"], "few"),
        (["x"], "no token"),
    ],
)
def test_prefix_refusals(tokens: list[str], message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        from_prefix(tokens)


@given(
    st.lists(
        st.one_of(st.sampled_from([*"+-*/", "neg", "N1", "1/2"]), st.text(NOISE, max_size=3)), max_size=12
    )
)
def test_any_prefix_gives_a_tree_or_an_error(tokens: list[str]) -> None:
    with suppress(ExpressionError):
        assert to_prefix(from_prefix(tokens))


def test_long_prefix_is_refused_not_recursed() -> None:
    with pytest.raises(ExpressionError, match="levels"):
        from_prefix(["+", "1"] * 5000 + ["1"])
