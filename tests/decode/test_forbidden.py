"""Forbidden words: never completed, nothing else forbidden; constraints together."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as peer

from hanformer.decode import (
    AllOf,
    AutomatonConstraint,
    Beam,
    ForbiddenWords,
    Greedy,
    PassageNgrams,
    Sample,
    Trie,
)
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table

SIZE = 5
words = st.lists(st.lists(st.integers(1, SIZE - 1), min_size=1, max_size=4), max_size=6)
texts = st.lists(st.integers(1, SIZE - 1), max_size=10)


def holds(text: tuple[int, ...], word: list[int]) -> bool:
    return any(text[place : place + len(word)] == tuple(word) for place in range(len(text)))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(words, texts)
def test_allows_exactly_what_completes_no_word(forbidden, text) -> None:
    automaton = ForbiddenWords(forbidden, SIZE, END)
    allowed = automaton.allowed(automaton.start(text))
    expected = [
        token for token in range(SIZE) if not any([*text, token][-len(word) :] == word for word in forbidden)
    ]
    assert allowed == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(words.filter(bool), texts.filter(bool))
def test_equals_transformers(forbidden, text) -> None:
    automaton = ForbiddenWords(forbidden, SIZE, END)
    processor = peer.NoBadWordsLogitsProcessor(forbidden, END)
    scores = processor(torch.tensor([text]), torch.zeros(1, SIZE))
    assert automaton.allowed(automaton.start(text)) == (scores[0] == 0).nonzero()[:, 0].tolist()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(words, st.sampled_from([Beam(3, 3), Sample(1, samples=3)]), st.integers(0, 999))
def test_no_word_comes_out(forbidden, rule, seed) -> None:
    automaton = ForbiddenWords(forbidden, SIZE, END)
    constraint = AutomatonConstraint(automaton, [automaton.start([2])], SIZE)
    [found] = decode(random_table(SIZE, 1, seed), [[2]], rule, 7, constraint=constraint, minimum_length=0)
    for hypothesis in found:
        text = [2, *hypothesis.tokens]
        for end in range(2, len(text) + 1):
            assert not any(text[:end][-len(word) :] == word for word in forbidden)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(words, texts.filter(bool), st.integers(0, 99))
def test_all_of_holds_all(forbidden, passage, seed) -> None:
    banned, grams = ForbiddenWords(forbidden, SIZE, END), PassageNgrams([passage] * 2, END)
    both = AllOf(
        [
            AutomatonConstraint(banned, [banned.root] * 2, SIZE),
            AutomatonConstraint(grams, [grams.start(0), grams.start(1)], SIZE),
        ]
    )
    table = random_table(SIZE, 1, seed)
    for found in decode(table, [[1], [3]], Beam(3, 3), 6, constraint=both, minimum_length=0):
        for hypothesis in found:
            assert holds(tuple(passage), list(hypothesis.tokens)) or not hypothesis.tokens
            assert not any(holds(hypothesis.tokens, word) for word in forbidden)


def test_mistakes_are_refused() -> None:
    for bad in ([], [1, END]):
        with pytest.raises(UserError, match="at least one token"):
            ForbiddenWords([bad], SIZE, END)
    with pytest.raises(UserError, match=r"ids in 0\.\.4"):
        ForbiddenWords([[5]], SIZE, END)
    with pytest.raises(UserError, match="at least one constraint"):
        AllOf([])
    contradiction = AllOf([AutomatonConstraint(Trie([[token]], END), [Trie.root], SIZE) for token in (1, 2)])
    with pytest.raises(UserError, match="every token is forbidden"):
        decode(random_table(SIZE, 1, 0), [[1]], Greedy(), 4, constraint=contradiction)
