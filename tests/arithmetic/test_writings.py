"""Fingerprints tell values apart; writings keep values and choose what training uses most."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest

from hanformer.arithmetic.expression import Expression, ExpressionError, evaluate, parse
from hanformer.arithmetic.notation import to_infix
from hanformer.arithmetic.writings import Writings, fingerprint

EQUAL = [
    ("N0*(N1+N2)", "N0*N1+N0*N2"),
    ("N0-(N1+N2)", "N0-N1-N2"),
    ("N0/(N1/N2)", "N0*N2/N1"),
    ("(N0+N1)**2", "N0*N0+2*N0*N1+N1*N1"),
    ("N0*0.5", "N0/2"),
    ("N0*20%", "N0/5"),
]
DIFFERENT = [
    ("N0", "N1"),
    ("N0-N1", "N1-N0"),
    ("N0*N1", "N0+N1"),
    ("N0/2", "N0/3"),
    ("N0**2", "N0**3"),
    ("3.14*N0", "3.15*N0"),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_equal_values_share_a_fingerprint(first: str, second: str) -> None:
    assert fingerprint(parse(first)) == fingerprint(parse(second)) is not None


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different_values_do_not(first: str, second: str) -> None:
    assert fingerprint(parse(first)) != fingerprint(parse(second))


@pytest.mark.parametrize("text", ["N0/(N1-N1)", "N0**N1", "2**0.5", "N0**200", "N99"])
def test_what_has_no_fingerprint(text: str) -> None:
    assert fingerprint(parse(text)) is None


def test_the_most_frequent_writing_is_chosen() -> None:
    often, seldom = parse("N0*N1+N0*N2"), parse("N0*(N1+N2)")
    writings = Writings([often, often, seldom])
    assert to_infix(writings(seldom)) == "N0*N1+N0*N2"
    assert to_infix(writings(parse("(N2+N1)*N0"))) == "N0*N1+N0*N2"
    assert to_infix(writings(parse("N1-N0"))) == "N1-N0"


def random_expression(random: Random, depth: int = 3) -> Expression:
    if not depth or random.random() < 0.3:
        return parse(random.choice(["N0", "N1", "N2", "1", "3.14", "2"]))
    left, right = random_expression(random, depth - 1), random_expression(random, depth - 1)
    return parse(f"({to_infix(left)}){random.choice('+-*/')}({to_infix(right)})")


def test_writings_keep_the_value() -> None:
    random = Random(0)
    expressions = [random_expression(random) for _ in range(300)]
    writings = Writings(expressions)
    numbers = [Fraction(7, 3), Fraction(11), Fraction(5, 13)]
    for expression in expressions:
        try:
            value = evaluate(expression, numbers)
        except ExpressionError:
            continue
        assert evaluate(writings(expression), numbers) == value
        assert writings(writings(expression)) == writings(expression)
