"""The canonical writing: same value, settled, the same for every writing of a chain."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.arithmetic.expression import (
    MAX_DEPTH,
    Expression,
    Limits,
    Negate,
    Number,
    Operation,
    Slot,
    evaluate,
    parse,
)
from hanformer.arithmetic.normalise import equivalents, normalise
from hanformer.arithmetic.notation import from_infix_tokens, from_prefix, to_infix, to_infix_tokens, to_prefix
from tests.arithmetic.trees import any_value, naive_value, slot_values, trees


@given(trees(any_value), slot_values)
def test_keeps_the_value(tree: Expression, numbers: list[Fraction]) -> None:
    expected = naive_value(tree, numbers)
    if expected is not None:
        assert naive_value(normalise(tree), numbers) == expected


@given(trees(any_value))
def test_is_idempotent(tree: Expression) -> None:
    once = normalise(tree)
    assert normalise(once) == once


@given(trees(any_value), slot_values, st.integers(0, 10**6), st.floats(0, 0.9))
def test_equivalents_keep_value_and_canonical_form(
    tree: Expression, numbers: list[Fraction], seed: int, grouping: float
) -> None:
    other = equivalents(tree, Random(seed), grouping)
    assert normalise(other) == normalise(tree)
    expected = naive_value(tree, numbers)
    if expected is not None:
        assert naive_value(other, numbers) == expected
    assert equivalents(tree, Random(seed), grouping) == other


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("N0-(N1+N2)", "N0-N1-N2"),
        ("N0-(N1-N2)", "N0+N2-N1"),
        ("N0/(N1*N2)", "N0/N1/N2"),
        ("N2*N1/(N0/3)", "N1*N2*3/N0"),
        ("N1+N0", "N0+N1"),
        ("3.14*N0**2", "N0**2*3.14"),
        ("(1+N1)*N0", "N0*(N1+1)"),
        ("1*N0/1+0", "N0"),
        ("1/N0", "1/N0"),
        ("-(N0-N1)", "N1-N0"),
        ("-N0*-N1", "N0*N1"),
        ("N0/(-N1)", "-N0/N1"),
        ("-N0-N1", "-(N0+N1)"),
        ("N0-N0", "N0-N0"),
    ],
)
def test_canonical_writings(text: str, canonical: str) -> None:
    assert to_infix(normalise(parse(text))) == canonical


def test_equivalents_reach_every_order_of_a_chain() -> None:
    rng = Random(0)
    drawn = {to_infix(equivalents(parse("N0-N1-N2"), rng)) for _ in range(200)}
    assert {"N0-N1-N2", "N0-N2-N1", "N0-(N1+N2)", "N0-(N2+N1)"} <= drawn


def test_long_chains() -> None:
    chain = normalise(parse("+".join(f"N{index}" for index in reversed(range(150)))))
    assert to_prefix(chain)[149:] == [f"N{index}" for index in range(150)]
    assert len(to_prefix(equivalents(chain, Random(1)))) == 299


def test_the_deepest_tree_passes_every_walk() -> None:
    tree: Expression = Slot(0)
    while tree.depth < MAX_DEPTH:
        tree = (
            Operation("*+"[tree.depth % 2], Number(Fraction(1, 3)), tree) if tree.depth % 3 else Negate(tree)
        )
    assert normalise(normalise(tree)) == normalise(tree)
    assert hash(equivalents(tree, Random(0)))
    assert from_prefix(to_prefix(tree)) == tree
    assert evaluate(tree, [Fraction(1)]) == naive_value(tree, [Fraction(1)])
    assert evaluate(
        from_infix_tokens(to_infix_tokens(normalise(tree)), Limits(depth=MAX_DEPTH)), [Fraction(1)]
    )
    assert len(repr(tree)) > MAX_DEPTH
