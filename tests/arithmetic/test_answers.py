"""Answers read, and written in the form that a question asks for."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given

from hanformer.arithmetic.answers import answer_form, format_answer, parse_answer
from hanformer.arithmetic.cleaning import read_equation
from hanformer.arithmetic.expression import ExpressionError, evaluate, parse
from hanformer.arithmetic.slots import align, find_numbers
from tests.arithmetic.published import math23k
from tests.arithmetic.trees import any_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.5", "7/2"),
        ("(1/2)", "1/2"),
        ("1(1/2)", "3/2"),
        ("20%", "1/5"),
        ("-3", -3),
        ("3((1)/(9))", "28/9"),
    ],
)
def test_parse_answer(text: str, value: str | int) -> None:
    assert parse_answer(text) == Fraction(value)


@pytest.mark.parametrize("text", ["", "三", "1(1/0)", "2**0.5", "(" * 2000])
def test_no_answer(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_answer(text)


@pytest.mark.parametrize(
    ("text", "expression", "answer"),
    [
        ("50人缺1人，出勤率是多少？", "(50-1)/50", "98%"),
        ("20万元缴税1万元，税率=？", "1/20", "5%"),
        ("14枚比8枚多百分之几？", "(14-8)/8", "75%"),
        ("4枚比8枚少多少%．", "(8-4)/8", "50%"),
        ("3枚比9枚少百分之几？", "(9-3)/9", "(2/3)"),
        ("利率是2%，存100元得利息多少元？", "100*2%", "2"),
        ("5块吃了3块，吃了几分之几？", "3/5", "(3/5)"),
        ("5块吃了3块，吃了((())/(()))．", "3/5", "(3/5)"),
        ("10千米修7天，每天修多少千米？", "10/7", "1(3/7)"),
        ("10的(3/7)是多少？", "10*(3/7)", "(30/7)"),
        ("10的(3/4)是多少？", "10*(3/4)", "(15/2)"),
        ("10.4的(3/4)是多少？", "10.4*(3/4)", "7.8"),
        ("5米分2段，每段多少米？", "5/2", "2.5"),
        ("80的20%是多少？", "83*20%", "16.6"),
        ("3个和4个", "3+4", "7"),
        ("3个和4个", "3-4", "-1"),
        ("3个和7个", "-10/7", "-1(3/7)"),
    ],
)
def test_format_answer(text: str, expression: str, answer: str) -> None:
    tree = parse(expression)
    value = evaluate(tree)
    assert format_answer(value, text, tree) == answer
    numbers = find_numbers(text)
    aligned = align(tree, numbers)
    if aligned is not None:
        assert format_answer(value, text, aligned) == answer
        assert format_answer(value, text, aligned, numbers) == answer


@given(any_value)
def test_what_is_written_is_exact(value: Fraction) -> None:
    for text in ("多少？", "百分之几？", "几分之几？", "(1/2)的多少？"):
        assert parse_answer(format_answer(abs(value), text, parse("(1/2)"))) == abs(value)


def test_form_counts_the_slots_of_the_expression() -> None:
    text = "0.5米的(1/4)"
    assert answer_form(Fraction(1, 4), text, parse("N1")) == "fraction"
    assert answer_form(Fraction(1, 8), text, parse("N0*N1")) == "decimal"
    assert answer_form(Fraction(1, 2), text, parse("N7")) == "decimal"


def test_most_published_answers_are_written_alike(data_folder: Path) -> None:
    same = 0
    for problem in math23k(data_folder).test:
        tree = read_equation(problem.equation)
        published = re.sub(r"\(\((\d+)\)/\((\d+)\)\)", r"(\1/\2)", problem.answer or "")
        same += format_answer(parse_answer(published), problem.text, tree) == published
    assert same >= 975
