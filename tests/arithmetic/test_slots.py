"""Numbers of a problem and the slots of its equation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.arithmetic.answers import parse_answer
from hanformer.arithmetic.cleaning import is_right, read_equation
from hanformer.arithmetic.expression import (
    Expression,
    ExpressionError,
    Negate,
    Operation,
    Operator,
    Slot,
    evaluate,
    parse,
    parse_written,
)
from hanformer.arithmetic.notation import to_infix
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.slots import CONSTANTS, NumberSpan, align, as_operand, find_numbers
from tests.arithmetic.published import cleaned_ape210k, math23k
from tests.arithmetic.trees import NOISE

OPERATORS: tuple[Operator, ...] = ("+", "-", "*", "/", "**")


def _found(text: str, chinese_numerals: bool = False) -> list[tuple[str, str, str]]:
    return [(span.text, str(span.value), span.kind) for span in find_numbers(text, chinese_numerals)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("有3个", [("3", "3", "integer")]),
        ("重28.4千克．共11棵．", [("28.4", "142/5", "decimal"), ("11", "11", "integer")]),
        ("全书的(1/6)", [("(1/6)", "1/6", "fraction")]),
        ("长1(1/2)米", [("1(1/2)", "3/2", "mixed")]),
        ("打80%，2.25%", [("80%", "4/5", "percent"), ("2.25%", "9/400", "percent")]),
        ("1,000元和12,345.5元", [("1,000", "1000", "integer"), ("12,345.5", "24691/2", "decimal")]),
        (
            "1,00，1,2345",
            [("1", "1", "integer"), ("00", "0", "integer"), *[(n, n, "integer") for n in ("1", "2345")]],
        ),
        ("３．５米和１２％", [("３．５", "7/2", "decimal"), ("１２％", "3/25", "percent")]),
        ("12/600的商", [("12", "12", "integer"), ("600", "600", "integer")]),
        ("全程的9/16", [("9/16", "9/16", "fraction")]),
        ("的9/16的商", [("9", "9", "integer"), ("16", "16", "integer")]),
        ("(1/0)", [("1", "1", "integer"), ("0", "0", "integer")]),
        ("5：3：4", [("5", "5", "integer"), ("3", "3", "integer"), ("4", "4", "integer")]),
        ("一半，没有数", []),
        ("", []),
    ],
)
def test_find_numbers(text: str, found: list[tuple[str, str, str]]) -> None:
    assert _found(text) == found


def test_chinese_numerals_are_an_option() -> None:
    text = "两根3米的绳子，用去百分之20和一半"
    assert [written for written, _, _ in _found(text)] == ["3", "20"]
    assert _found(text, chinese_numerals=True) == [
        ("两", "2", "integer"),
        ("3", "3", "integer"),
        ("百分之20", "1/5", "percent"),
        ("一半", "1/2", "fraction"),
    ]


@given(st.text(NOISE, max_size=40), st.booleans())
def test_spans_are_exact_and_in_order(text: str, chinese_numerals: bool) -> None:
    end = 0
    for span in find_numbers(text, chinese_numerals):
        assert end <= span.start < span.end
        assert text[span.start : span.end] == span.text
        end = span.end


@pytest.mark.parametrize(
    ("text", "equation", "slots"),
    [
        ("有50人，出勤率98%", "50*(1-98%)", "N0*(1-N1)"),
        ("20天看了全书的(1/6)", "20/(1/6)", "N0/N1"),
        ("甲1天，乙6天，丙(1/6)", "1/6+(1/6)", "N2+N2"),
        ("400克用8米", "20/(400/8)", None),
        ("直径2米", "3.14*(2/2)**2", "3.14*(N0/N0)**N0"),
        ("每天3时，共3天", "3*3", "N0*N1"),
        ("每天3时，共3天", "3*3*3", "N0*N1*N0"),
        ("长1(1/2)米", "2*1(1/2)", None),
        ("2根1(1/2)米", "2*1(1/2)", "N0*N1"),
        ("200%和2个", "2*200%", "N1*N1"),
        ("7个", "-7", "-N0"),
        ("25个", "25%", None),
    ],
)
def test_align(text: str, equation: str, slots: str | None) -> None:
    aligned = align(parse_written(equation), find_numbers(text))
    assert (None if aligned is None else to_infix(aligned)) == slots


def test_align_with_other_constants() -> None:
    assert align(parse("7*2"), find_numbers("7个"), [Fraction(2)]) == parse("N0*2")
    assert align(parse("1"), find_numbers("7个"), []) is None


def _oracle(problems: Sequence[Problem], chinese_numerals: bool) -> int:
    """How many problems have an expression over slots and constants with the right value."""
    right = 0
    for problem in problems:
        numbers: list[NumberSpan] = find_numbers(problem.text, chinese_numerals)
        aligned = align(read_equation(problem.equation), numbers, CONSTANTS)
        if aligned is not None:
            value = evaluate(aligned, [span.value for span in numbers])
            right += is_right(value, parse_answer(problem.answer or ""))
    return right


def test_share_of_the_published_problems_that_slots_express(data_folder: Path) -> None:
    split = math23k(data_folder)
    assert _oracle(split.test, chinese_numerals=False) == 1000
    ape = cleaned_ape210k(data_folder).originals
    assert _oracle(ape, chinese_numerals=False) == 3017
    assert _oracle(ape, chinese_numerals=True) == 3250


def test_numbers_stand_in_an_expression_as_in_the_text() -> None:
    text = "原价1,200元，打八折又降20%，再买1(1/2)份，每份(3/4)，全程的9/16，共２．５０元"
    numbers = find_numbers(text)
    written = [as_operand(number) for number in numbers]
    assert written == ["1200", "20%", "1(1/2)", "(3/4)", "(9/16)", "2.50"]
    values = [number.value for number in numbers]
    for operator, left, right in product(OPERATORS, range(6), range(6)):
        pair = Operation(operator, Slot(left), Slot(right))
        for tree in (pair, Negate(pair), Operation("*", Slot(1), pair), Operation("-", Slot(2), pair)):
            again = parse_written(to_infix(tree, written))
            assert value_or_none(again) == value_or_none(tree, values)


def value_or_none(tree: Expression, values: Sequence[Fraction] = ()) -> Fraction | None:
    try:
        return evaluate(tree, values)
    except ExpressionError:
        return None


def test_chinese_numerals_stand_there_as_fractions() -> None:
    numbers = find_numbers("三分之一的两倍", chinese_numerals=True)
    assert [as_operand(number) for number in numbers] == ["(1/3)", "2"]
