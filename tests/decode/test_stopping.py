"""Stop strings and tokens, time limits and interrupts: a clean end, whatever the rule."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode import (
    Beam,
    Greedy,
    Sample,
    StopStrings,
    StopTokens,
    TimeLimit,
    cut_at,
    generate,
    stream,
    table_prompt,
    table_step,
)
from hanformer.errors import UserError
from tests.decode.oracle import END, random_table

TEXTS = ["", "甲", "乙丙", "x", "yz", "丙甲"]
RULES = [Greedy(), Beam(3, 3), Sample(samples=3)]


def text_of(tokens) -> str:
    return "".join(TEXTS[token] for token in tokens)


def decoded(rule, seed: int, length: int = 9, **settings) -> list:
    table = random_table(6, 1, seed)
    logits, state = table_prompt(table, [[1], [4]])
    return generate(
        table_step(table), state, logits, rule=rule, end_id=END, maximum_length=length, **settings
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.sampled_from([Greedy(), Sample(samples=3)]))
def test_stop_strings_cut_what_would_have_come(seed, rule) -> None:
    stop = StopStrings(text_of, ["丙甲", "zx"])
    stopped, plain = decoded(rule, seed, stop=stop), decoded(rule, seed)
    for mine, theirs in zip(itertools.chain(*stopped), itertools.chain(*plain), strict=True):
        whole = next((n for n in range(len(theirs.tokens) + 1) if stop(theirs.tokens[:n])), None)
        assert mine.tokens == theirs.tokens[:whole]
        assert mine.finished == (theirs.finished or whole is not None)
        assert cut_at(text_of(mine.tokens), stop.strings) == cut_at(text_of(theirs.tokens), stop.strings)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.integers(1, 4))
def test_a_stop_token_finishes_beams_as_a_second_end_token_would(seed, beams) -> None:
    stop = StopTokens(frozenset({3}))
    for hypothesis in itertools.chain(*decoded(Beam(beams, beams), seed, stop=stop)):
        assert 3 not in hypothesis.tokens[:-1]
        assert hypothesis.finished or 3 not in hypothesis.tokens


def test_beams_keep_their_width_where_several_tokens_finish() -> None:
    table = torch.tensor([5.0, 1.0, 2.0, 6.0, 0.0, 0.5]).repeat(6, 1)
    logits, state = table_prompt(table, [[1]])
    common = {"rule": Beam(2, 2), "end_id": END, "maximum_length": 4, "minimum_length": 0}
    stop = StopTokens(frozenset({3}))
    [search] = next(stream(table_step(table), state, logits, stop=stop, **common))
    assert sorted(path.tokens for path in search.live) == [(1,), (2,)]
    assert [path.tokens for path in search.finished] == [(3,), (END,)]


def test_cut_at_the_first_of_them() -> None:
    assert cut_at("一二三四", ["四", "二三"]) == "一" and cut_at("一二", []) == "一二"
    assert cut_at("a\na", ["\n", "a\na"]) == "a", (
        "the one that is complete first, not the one that begins first"
    )
    assert cut_at("ab", ["b", "ab"]) == ""


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_time_limit_gives_back_what_there_is(rule) -> None:
    ticks = itertools.count()
    limit = TimeLimit(3, clock=lambda: float(next(ticks)))
    found = decoded(rule, 1, length=9, minimum_length=9, interrupt=limit)
    assert all(len(h.tokens) == 3 and not h.finished for h in itertools.chain(*found))
    assert not TimeLimit(1000)()


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_stream_shows_each_step_and_can_be_left(rule) -> None:
    table = random_table(6, 1, 2)
    logits, state = table_prompt(table, [[1], [4]])
    steps = stream(
        table_step(table), state, logits, rule=rule, end_id=END, maximum_length=6, minimum_length=6
    )
    for length, searches in enumerate(steps, 1):
        assert [search.length for search in searches] == [length] * 2
        if length == 4:
            steps.close()
            break
    found = [rule.hypotheses(search) for search in searches]
    assert all(len(h.tokens) == 4 for h in itertools.chain(*found))
    assert torch.is_grad_enabled()


def test_mistakes_are_refused() -> None:
    for bad in ([""], "abc"):
        with pytest.raises(UserError, match="stop strings"):
            StopStrings(text_of, bad)
    with pytest.raises(UserError, match="above 0 seconds"):
        TimeLimit(0)
