"""Beam search: against exhaustive search, a naive oracle, itself one by one, and bert4keras' own outputs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode import Beam, Bert4kerasBeam, Gnmt, Greedy, Power
from hanformer.decode.generate import in_place
from hanformer.decode.search import Path as SearchPath
from hanformer.errors import UserError
from tests.decode.oracle import (
    END,
    decode,
    decode_timed,
    finished_sequences,
    log_probability,
    naive_beam,
    naive_bert4keras,
    random_table,
    same,
    timed_table,
)

STOPPING = ["sound", "full", "heuristic"]
GOLDEN = Path(__file__).parents[1] / "golden"
PENALTIES = [Power(0.0), Power(1.0), Power(2.0), Power(-0.5), Gnmt(0.6), Gnmt(-1.0)]
penalties = st.sampled_from(PENALTIES)
seeds = st.integers(0, 10**6)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
@pytest.mark.parametrize(("size", "length"), [(2, 5), (3, 5), (4, 4), (5, 3)])
def test_wide_beam_finds_what_exhaustive_search_finds(size: int, length: int, penalty: Power) -> None:
    table = timed_table(length, size, seed=size * 10 + length)
    [found] = decode_timed(table, [1], Beam(size**length, 4, penalty))
    scores, sequences = table.log_softmax(-1), finished_sequences(size, length)
    best = sorted(((log_probability(scores, 1, s) / penalty(len(s)), s) for s in sequences), reverse=True)
    assert len(found) == 4
    assert all(same(h, s, score, True) for h, (score, s) in zip(found, best[:4], strict=True))


@settings(max_examples=40)
@given(seeds, st.integers(2, 7), st.integers(1, 6), st.integers(1, 7), penalties, st.data())
def test_equals_naive_beam_that_never_stops(seed, size, beams, length, penalty, data) -> None:
    table, results = timed_table(length, size, seed), data.draw(st.integers(1, beams))
    batch = decode_timed(table, list(range(size)), Beam(beams, results, penalty))
    for prompt, found in enumerate(batch):
        expected = naive_beam(table, prompt, beams, penalty)[:results]
        assert len(found) == len(expected)
        assert all(same(h, *entry) for h, entry in zip(found, expected, strict=True))


@settings(max_examples=25)
@given(seeds, st.integers(1, 5), penalties, st.sampled_from(STOPPING))
def test_batch_equals_one_by_one(seed, beams, penalty, stopping) -> None:
    table = timed_table(8, 6, seed).float()
    prompts, rule = [3, 1, 4, 1, 5, 0], Beam(beams, beams, penalty, stopping)
    assert decode_timed(table, prompts, rule) == [decode_timed(table, [p], rule)[0] for p in prompts]


@settings(max_examples=25)
@given(seeds)
def test_one_beam_without_penalty_is_greedy(seed) -> None:
    table, prompts = random_table(5, 1, seed), [[t] for t in range(5)]
    assert decode(table, prompts, Beam(1, 1, Power(0)), 8) == decode(table, prompts, Greedy(), 8)


def test_beam_wins_where_greedy_is_led_astray() -> None:
    # After 3: token 1 (0.6) leads to 0.5 * end, token 2 (0.4) to 0.9 * end. Greedy scores 0.30, beam 0.36.
    p = torch.full((4, 4), 1e-9)
    p[3, 1], p[3, 2] = 0.6, 0.4
    p[1, END], p[1, 1], p[2, END], p[2, 1] = 0.5, 0.45, 0.9, 0.1
    [[greedy]], [[best]] = decode(p.log(), [[3]], Greedy(), 5), decode(p.log(), [[3]], Beam(2), 5)
    assert (greedy.tokens, best.tokens) == ((1,), (2,))
    assert best.score == pytest.approx(float(np.log(0.36)) / 2, abs=1e-5)


def test_sound_stopping_waits_for_the_better_mean() -> None:
    # Ending at once scores log 0.51. The way 2, 3, 4 is sure after its first token and scores log(0.2) / 4,
    # which no path of two tokens could: the bound must look at the maximum length.
    p = torch.zeros(6, 6)
    p[1] = torch.tensor([0.51, 0.0, 0.2, 0.15, 0.14, 0.0])
    p[2, 3] = p[3, 4] = p[4, END] = 1.0
    found = {stopping: decode(p.log(), [[1]], Beam(1, stopping=stopping), 12)[0][0] for stopping in STOPPING}
    assert (found["sound"].tokens, found["full"].tokens) == ((2, 3, 4), ())
    assert found["sound"].score == pytest.approx(float(np.log(0.2)) / 4, abs=1e-6)
    assert found["heuristic"].tokens == ()  # the mean of (2) alone, log 0.2, does not beat log 0.51


def test_more_beams_than_vocabulary() -> None:
    [found] = decode(random_table(3, 1, 7), [[1]], Beam(50, 50), 2)
    finished = [h for h in found if h.finished]
    assert sorted(h.tokens for h in finished) == [(), (1,), (2,)]
    assert len(found) == 3 + 4


def test_minimum_length_and_fixed_length() -> None:
    table = random_table(5, 1, 11)
    table[:, END] += 5
    [found] = decode(table, [[1]], Beam(4, 4), 6, minimum_length=3)
    assert all(len(h.tokens) >= 3 and END not in h.tokens for h in found)
    [fixed] = decode(table, [[1]], Beam(4, 4), 6, minimum_length=6)
    assert [len(h.tokens) for h in fixed] == [6] * 4 and not any(h.finished for h in fixed)


def golden_cases() -> list[dict]:
    return json.loads((GOLDEN / "beam_search.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "case", golden_cases(), ids=lambda case: "-".join(str(v) for v in case.values())[:20]
)
def test_reproduces_bert4keras(case) -> None:
    table = torch.from_numpy(np.load(GOLDEN / "functions.npz")["beam__probs"]).log()
    # bert4keras counts its start token in minlen, and the golden model sees 0 before it.
    rule = Bert4kerasBeam(case["beam_size"], case["min_ends"], case["minlen"] - 1)
    [[found]] = decode(table, [[0, case["start_id"]]], rule, case["maxlen"], end_id=case["end_id"])
    ids = [case["start_id"], *found.tokens, *([case["end_id"]] if found.finished else [])]
    assert ids == case["output"]


@settings(max_examples=40)
@given(seeds, st.integers(1, 5), st.integers(1, 2), st.integers(0, 3))
def test_equals_naive_bert4keras_rule(seed, beams, ends, shortest) -> None:
    table = timed_table(7, 6, seed)
    table[..., END] += 1
    for prompt, [found] in enumerate(
        decode_timed(table, list(range(6)), Bert4kerasBeam(beams, ends, shortest))
    ):
        assert same(found, *naive_bert4keras(table, prompt, beams, ends, shortest))


def test_bert4keras_rule_in_a_batch_equals_one_by_one() -> None:
    table = torch.from_numpy(np.load(GOLDEN / "functions.npz")["beam__probs"]).log()
    prompts, rule = [[0, token] for token in range(13)], Bert4kerasBeam(5, 2)
    together = decode(table, prompts, rule, 15, end_id=2)
    assert together == [decode(table, [prompt], rule, 15, end_id=2)[0] for prompt in prompts]


@given(st.lists(st.integers(0, 5), max_size=6))
def test_in_place_keeps_every_parent_that_can_stay(parents) -> None:
    placed = in_place([SearchPath((n,), parent=parent) for n, parent in enumerate(parents)])
    assert sorted(path.tokens for path in placed) == [(n,) for n in range(len(parents))]
    for slot in range(len(parents)):
        assert (slot in parents) == (placed[slot].parent == slot)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Beam(0),
        lambda: Beam(2, 3),
        lambda: Beam(2, 0),
        lambda: Beam(2, stopping="never"),
        lambda: Bert4kerasBeam(0),
        lambda: Bert4kerasBeam(2, 0),
        lambda: Power(1000),
        lambda: Power(math.nan),
        lambda: Gnmt(-51),
        lambda: Gnmt(math.inf),
    ],
)
def test_impossible_rules_are_refused(make) -> None:
    with pytest.raises(UserError, match="expected"):
        make()
