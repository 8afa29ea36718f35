"""Diverse beam search against a naive form with Python lists, and against plain beam search."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode import Beam, DiverseBeam, Gnmt, Power
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, decode_timed, random_table, timed_table

penalties = st.sampled_from([Power(0.0), Power(1.0), Gnmt(0.6)])


def naive_diverse(table, prompt: int, beams: int, groups: int, strength: float, penalty) -> list:
    """Each group until it has finished its share: (tokens, score, finished), best first."""
    size, scores = beams // groups, table.log_softmax(-1).tolist()
    live = [[((), 0.0)] for _ in range(groups)]
    pools: list[list] = [[] for _ in range(groups)]
    for after in scores:
        taken: Counter = Counter()
        for group in range(groups):
            extended = [
                ((*tokens, token), total + value - strength * taken[token])
                for tokens, total in live[group]
                for token, value in enumerate(after[tokens[-1] if tokens else prompt])
            ]
            extended.sort(key=lambda pair: -pair[1])
            pools[group] += [pair for pair in extended[:size] if pair[0][-1] == END]
            pools[group] = sorted(pools[group], key=lambda pair: -pair[1] / penalty(len(pair[0])))[:size]
            alive = [pair for pair in extended if pair[0][-1] != END][:size]
            live[group] = alive if len(pools[group]) < size else []
            taken.update(tokens[-1] for tokens, _ in live[group])
    entries = []
    for pool, alive in zip(pools, live, strict=True):
        rest = sorted(alive, key=lambda pair: -pair[1] / penalty(len(pair[0])))[: size - len(pool)]
        entries += [(tokens, total / penalty(len(tokens)), True) for tokens, total in pool]
        entries += [(tokens, total / penalty(len(tokens)), False) for tokens, total in rest]
    return sorted(entries, key=lambda entry: (not entry[2], -entry[1]))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.floats(0.0, 3.0), penalties)
def test_equals_the_naive_form(seed, groups, size, strength, penalty) -> None:
    table = timed_table(5, 6, seed)
    beams = groups * size
    batch = decode_timed(table, list(range(6)), DiverseBeam(beams, groups, strength, beams, penalty, "full"))
    for prompt, found in enumerate(batch):
        expected = naive_diverse(table, prompt, beams, groups, strength, penalty)
        assert len(found) == len(expected)
        ours = [((*h.tokens, END) if h.finished else h.tokens, h.score, h.finished) for h in found]
        for mine, theirs in zip(ours, expected, strict=True):
            assert mine[1] == pytest.approx(theirs[1]) and mine[2] == theirs[2]
        if strength:  # without, groups hold the same sequences and tie
            assert sorted(m[0] for m in ours) == sorted(t[0] for t in expected)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 4), penalties, st.sampled_from(["sound", "full", "heuristic"]))
def test_one_group_is_beam_search_and_strength_zero_is_the_same_search_twice(
    seed, beams, penalty, stopping
) -> None:
    table, prompts = timed_table(7, 6, seed), [1, 4, 2]
    # A group waits until all its beams have finished for certain.
    plain = decode_timed(table, prompts, Beam(beams, beams, penalty, stopping))
    one = decode_timed(table, prompts, DiverseBeam(beams, 1, 0.9, beams, penalty, stopping))
    assert one == plain
    two = decode_timed(table, prompts, DiverseBeam(2 * beams, 2, 0.0, 2 * beams, penalty, stopping))
    assert [found[::2] for found in two] == plain and [found[1::2] for found in two] == plain


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([(2, 2), (4, 2), (6, 3)]))
def test_batch_equals_one_by_one(seed, shape) -> None:
    table, prompts, rule = timed_table(7, 6, seed), [3, 1, 3, 0], DiverseBeam(*shape, 0.7, shape[0])
    assert decode_timed(table, prompts, rule) == [decode_timed(table, [p], rule)[0] for p in prompts]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([(2, 2), (4, 2), (6, 3)]))
def test_rows_of_the_state_follow_their_beams(seed, shape) -> None:
    # The table looks two tokens back, at what the state alone remembers.
    table = random_table(5, 2, seed)
    log_p = table.log_softmax(-1)
    [found] = decode(table, [[1, 2]], DiverseBeam(*shape, 0.75, shape[0], Power(0.0)), 6)
    for hypothesis in found:
        tokens = [1, 2, *hypothesis.tokens, *([END] if hypothesis.finished else [])]
        windows = zip(tokens, tokens[1:], tokens[2:], strict=False)
        paid = (float(sum(log_p[window] for window in windows)) - hypothesis.score) / 0.75
        assert paid == pytest.approx(round(paid), abs=1e-6) and round(paid) >= 0


def test_strength_makes_the_groups_differ_at_once() -> None:
    table = random_table(9, 1, 1)
    [found] = decode(table, [[1]], DiverseBeam(3, 3, 50.0, 3), 4, minimum_length=4)
    assert len({hypothesis.tokens[0] for hypothesis in found}) == 3


def test_more_beams_than_vocabulary() -> None:
    [found] = decode(random_table(3, 1, 7), [[1]], DiverseBeam(20, 2, 0.5, 20), 2)
    assert {h.tokens for h in found if h.finished} == {(), (1,), (2,)}


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiverseBeam(4, 3),
        lambda: DiverseBeam(4, 0),
        lambda: DiverseBeam(4, 2, -1.0),
        lambda: DiverseBeam(4, 2, float("inf")),
        lambda: DiverseBeam(4, 2, 0.5, 5),
        lambda: DiverseBeam(4, 2, stopping="never"),
    ],
)
def test_impossible_rules_are_refused(make) -> None:
    with pytest.raises(UserError, match="expected"):
        make()
