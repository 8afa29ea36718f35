"""Constraints: never violated, exact against exhaustive search, and clear where nothing is allowed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode import AutomatonConstraint, Beam, Greedy, Power, Sample, Trie
from hanformer.errors import UserError
from tests.decode.oracle import (
    END,
    decode,
    decode_timed,
    log_probability,
    naive_beam,
    random_table,
    same,
    timed_table,
)

SIZE = 6
words = st.lists(st.lists(st.integers(1, SIZE - 1), min_size=1, max_size=4), min_size=1, max_size=8)
rules = st.sampled_from([Greedy(), Beam(1), Beam(3, 3), Beam(4, 2, Power(0)), Sample(3, samples=3)])


class Parity:
    """Allows the end only after an even number of tokens, and never the token 1 twice running."""

    def allowed(self, state: tuple[int, int]) -> list[int]:
        count, last = state
        tokens = [token for token in range(1, SIZE) if not token == last == 1]
        return [END, *tokens] if count % 2 == 0 else tokens

    def advance(self, state: tuple[int, int], token: int) -> tuple[int, int]:
        return (state[0] + 1) % 2, token


@settings(max_examples=30)
@given(words, rules, st.integers(0, 999))
def test_only_sequences_of_the_trie_come_out(sequences, rule, seed) -> None:
    constraint = AutomatonConstraint(Trie(sequences, END), [Trie.root] * 3, SIZE)
    batch = decode(random_table(SIZE, 1, seed), [[1], [2], [3]], rule, 5, constraint=constraint)
    whole = {tuple(sequence) for sequence in sequences}
    for hypotheses in batch:
        assert hypotheses and all(h.finished and h.tokens in whole for h in hypotheses)


@settings(max_examples=30)
@given(words, st.integers(0, 999), st.booleans())
def test_wide_beam_over_a_trie_is_exhaustive(sequences, seed, renormalise) -> None:
    table, whole = timed_table(5, SIZE, seed), {tuple(sequence) for sequence in sequences}
    constraint = AutomatonConstraint(Trie(sequences, END), [Trie.root], SIZE)
    rule = Beam(60, len(whole), Power(0))
    [found] = decode_timed(table, [2], rule, constraint=constraint, renormalise=renormalise)
    assert {h.tokens for h in found} == whole
    if renormalise:  # the allowed sequences share all the probability
        assert sum(math.exp(h.score) for h in found) == pytest.approx(1.0)
    else:
        scores = table.log_softmax(-1)
        assert all(h.score == pytest.approx(log_probability(scores, 2, [*h.tokens, END])) for h in found)


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 7))
def test_equals_naive_constrained_beam_in_a_batch(seed, beams, length) -> None:
    table, automaton = timed_table(length, SIZE, seed), Parity()
    constraint = AutomatonConstraint(automaton, [(0, 0)] * SIZE, SIZE, cached_masks=2)
    batch = decode_timed(table, list(range(SIZE)), Beam(beams, beams), constraint=constraint)

    def allowed(tokens: tuple[int, ...], token: int) -> bool:
        state = (0, 0)
        for earlier in tokens:
            state = automaton.advance(state, earlier)
        return token in automaton.allowed(state)

    for prompt, found in enumerate(batch):
        expected = naive_beam(table, prompt, beams, Power(1.0), allowed)
        assert len(found) == len(expected)
        assert all(same(h, *entry) for h, entry in zip(found, expected, strict=True))


def test_minimum_length_prunes_short_branches_of_a_trie() -> None:
    def over(sequences: list[list[int]]) -> AutomatonConstraint:
        return AutomatonConstraint(Trie(sequences, END), [Trie.root], SIZE)

    table = random_table(SIZE, 1, 5)
    table[:, 1] += 4
    sequences = [[1], [2, 3], [4, 5, 1]]
    [found] = decode(table, [[1]], Beam(5, 5), 5, constraint=over(sequences), minimum_length=2)
    assert {h.tokens for h in found} == {(2, 3), (4, 5, 1)}
    with pytest.raises(UserError, match="prompt 0: expected an allowed token after 1 generated"):
        decode(table, [[1]], Greedy(), 5, constraint=over([[1]]), minimum_length=2)


@pytest.mark.parametrize("rule", [Greedy(), Beam(3), Sample(samples=2)], ids=repr)
def test_a_dead_end_names_its_prompt(rule) -> None:
    class Wall:
        def allowed(self, state: int) -> list[int]:
            return [] if state == 2 else [1, 2]

        def advance(self, state: int, token: int) -> int:
            return state + 1 if state else 0

    constraint = AutomatonConstraint(Wall(), [0, 1, 0], SIZE)
    with pytest.raises(UserError, match="prompt 1: expected an allowed token after 1 generated tokens"):
        decode(random_table(SIZE, 1, 0), [[1], [2], [3]], rule, 5, constraint=constraint)


def test_masks_are_made_once_a_state_and_forgotten_in_order() -> None:
    asked = []

    class Counting(Parity):
        def allowed(self, state: tuple[int, int]) -> list[int]:
            asked.append(state)
            return super().allowed(state)

    constraint = AutomatonConstraint(Counting(), [(0, 0)] * 4, SIZE, cached_masks=2)
    for _ in range(3):
        assert constraint.allowed().shape == (4, SIZE)
    assert asked == [(0, 0)]
    for state in [(1, 1), (0, 0), (1, 2), (0, 0), (1, 1)]:
        constraint.mask(state)
    assert asked == [(0, 0), (1, 1), (1, 2), (1, 1)]


def test_bad_automata_are_refused() -> None:
    with pytest.raises(UserError, match="at least one allowed sequence"):
        Trie([], END)
    with pytest.raises(UserError, match="without the end token"):
        Trie([[1, END, 2]], END)
    with pytest.raises(UserError, match=r"allowed ids in 0\.\.2, got 3\.\.3"):
        AutomatonConstraint(Trie([[3]], END), [Trie.root], 3).allowed()
