"""N-grams of a passage and prefix functions: exactly what brute force allows."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode import AutomatonConstraint, Beam, Greedy, PassageNgrams, Power, PrefixFunction, Sample
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, decode_timed, naive_beam, random_table, same, timed_table

SIZE = 6
passages = st.lists(st.integers(1, SIZE - 1), min_size=1, max_size=9)
rules = st.sampled_from([Greedy(), Beam(3, 3), Sample(3, samples=3)])


def ngrams(passage: list[int]) -> set[tuple[int, ...]]:
    """All contiguous parts, the empty one too."""
    places = range(len(passage) + 1)
    return {tuple(passage[a:b]) for a in places for b in places}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(passages, min_size=1, max_size=3), rules, st.integers(0, 999))
def test_only_n_grams_of_the_own_passage_come_out(texts, rule, seed) -> None:
    automaton = PassageNgrams(texts, END)
    starts = [automaton.start(number) for number in range(len(texts))]
    constraint = AutomatonConstraint(automaton, starts, SIZE)
    prompts = [[1 + number] for number in range(len(texts))]
    table = random_table(SIZE, 1, seed)
    batch = decode(table, prompts, rule, 10, constraint=constraint, minimum_length=0)
    for passage, found in zip(texts, batch, strict=True):
        assert all(h.finished and h.tokens in ngrams(passage) for h in found)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, SIZE - 1), min_size=1, max_size=5), st.integers(0, 999))
def test_a_wide_beam_finds_every_n_gram(passage, seed) -> None:
    automaton = PassageNgrams([passage], END)
    constraint = AutomatonConstraint(automaton, [automaton.start(0)], SIZE)
    whole = ngrams(passage)
    table = timed_table(6, SIZE, seed)
    [found] = decode_timed(table, [2], Beam(40, len(whole), Power(0)), constraint=constraint)
    assert {h.tokens for h in found} == whole


def test_empty_passages_end_at_once_and_mistakes_are_refused() -> None:
    automaton = PassageNgrams([[]], END)
    assert automaton.allowed(automaton.start(0)) == [END]
    with pytest.raises(UserError, match="it is in number 1"):
        PassageNgrams([[1], [2, END]], END)
    with pytest.raises(UserError, match=r"passage in 0\.\.0, got 1"):
        automaton.start(1)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.integers(1, 4))
def test_prefix_function_equals_naive_constrained_beam(seed, beams) -> None:
    def allowed(prompt: int, tokens: tuple[int, ...]) -> list[int]:
        return [t for t in range(SIZE) if (t + prompt + sum(tokens) + len(tokens)) % 3 or t == 4]

    automaton = PrefixFunction(allowed)
    constraint = AutomatonConstraint(automaton, [automaton.start(p) for p in range(SIZE)], SIZE)
    table = timed_table(5, SIZE, seed)
    batch = decode_timed(table, list(range(SIZE)), Beam(beams, beams), constraint=constraint)
    for prompt, found in enumerate(batch):
        expected = naive_beam(
            table, prompt, beams, Power(1.0), lambda tokens, t, p=prompt: t in allowed(p, tokens)
        )
        assert len(found) == len(expected)
        assert all(same(h, *entry) for h, entry in zip(found, expected, strict=True))
