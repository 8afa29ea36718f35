"""The encoding comes back, its pairs obey gamma, and the risk of loops falls."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.theory.rebalanced import Rebalanced, pair_probabilities, rebalance
from hanformer.theory.repetition import repeated_ngrams, repetition_risk
from hanformer.theory.transitions import transitions_of

TEXTS = st.lists(st.text("abcd", min_size=1, max_size=30), min_size=1, max_size=8)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(TEXTS, st.floats(0.05, 0.9), st.text("abcde", max_size=20))
def test_decoding_undoes_encoding(texts: list[str], gamma: float, other: str) -> None:
    found = rebalance(texts, gamma)
    for text in (*texts, other):
        assert found.decode(found.encode(text)) == list(text)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(TEXTS, st.floats(0.05, 0.9))
def test_no_pair_exceeds_gamma_when_it_has_converged(texts: list[str], gamma: float) -> None:
    found = rebalance(texts, gamma, rounds=100)
    probabilities = pair_probabilities([found.encode(text) for text in texts])
    assert found.greatest == max(probabilities.values(), default=0.0)
    assert found.greatest <= gamma
    for merges in found.rounds:
        assert merges


def test_by_hand() -> None:
    # count(a) = 4, V = 3: p(b | a) = (3 + 1) / (4 + 3), p(c | a) = (1 + 1) / 7, p(a | b) = (1 + 1) / 6
    texts = ["ab", "ab", "abac"]
    found = rebalance(texts, 0.5, rounds=1)
    assert found.rounds == (frozenset({(("a",), ("b",))}),)
    assert found.encode("abac") == [("a", "b"), ("a",), ("c",)]
    assert found.encode("abab") == [("a", "b"), ("a", "b")]
    assert rebalance(texts, 0.6) == Rebalanced((), 4 / 7)


def test_loops_of_a_text_get_fewer() -> None:
    text = "人之初性本善性相近习相远" * 6 + "苟不教性乃迁教之道贵以专"
    found = rebalance([text], 0.15)
    pieces = ["=".join(piece) for piece in found.encode(text)]
    before = repetition_risk(transitions_of([text], smoothing=0.1).matrix)
    after = repetition_risk(transitions_of([pieces], smoothing=0.1).matrix)
    assert after.measure < before.measure and len(pieces) < len(text)
    assert repeated_ngrams(pieces) < repeated_ngrams(text)
    assert all(a != b for a, b in pairwise(pieces))


def test_impossible_settings() -> None:
    for gamma, rounds in ((0.0, 1), (1.0, 1), (0.5, -1)):
        with pytest.raises(UserError, match="gamma"):
            rebalance(["ab"], gamma, rounds)
