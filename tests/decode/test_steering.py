"""Biases, suppressed and forced tokens, length decay: against transformers, and through the loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as peer

from hanformer.decode import Beam, Greedy, Sample, generate, table_prompt, table_step
from hanformer.decode.search import Row
from hanformer.decode.steering import Bias, Force, LengthDecay, Suppress
from hanformer.errors import UserError
from tests.decode.oracle import END, random_table

SIZE = 6
CASES = settings(max_examples=30, deadline=None, derandomize=True)
ids = st.integers(0, SIZE - 1)


def logits_of(seed: int) -> torch.Tensor:
    logits = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(seed))
    logits[1, seed % SIZE] = -math.inf
    return logits


def after(length: int) -> tuple[list[Row], torch.Tensor]:
    history = [1] * length
    return [Row(prompt, tuple(history)) for prompt in range(3)], torch.tensor([history] * 3).view(3, length)


def decoded(filters: list, rule, maximum_length: int = 6) -> list:
    table = random_table(SIZE, 1, 3)
    logits, state = table_prompt(table, [[2], [4]])
    return generate(
        table_step(table),
        state,
        logits,
        rule=rule,
        end_id=END,
        maximum_length=maximum_length,
        filters=filters,
    )


@CASES
@given(st.integers(0, 999), st.dictionaries(ids, st.floats(-5, 5), min_size=1))
def test_bias_equals_transformers(seed, biases) -> None:
    rows, history = after(2)
    expected = peer.SequenceBiasLogitsProcessor([[[t], v or 0.5] for t, v in biases.items()])
    mine = Bias({token: value or 0.5 for token, value in biases.items()})
    torch.testing.assert_close(mine(logits_of(seed), rows), expected(history, logits_of(seed)))


@CASES
@given(st.integers(0, 999), st.lists(ids, min_size=1), st.integers(0, 2))
def test_suppress_equals_transformers(seed, tokens, length) -> None:
    rows, history = after(length)
    everywhere = peer.SuppressTokensLogitsProcessor(tokens)
    assert torch.equal(Suppress(tokens)(logits_of(seed), rows), everywhere(history, logits_of(seed)))
    first = peer.SuppressTokensAtBeginLogitsProcessor(tokens, 0)
    assert torch.equal(Suppress(tokens, [0])(logits_of(seed), rows), first(history, logits_of(seed)))


@CASES
@given(st.integers(0, 999), ids, st.integers(1, 4))
def test_force_equals_transformers(seed, token, length) -> None:
    rows, history = after(length)
    first, last = peer.ForcedBOSTokenLogitsProcessor(token), peer.ForcedEOSTokenLogitsProcessor(4, token)
    assert torch.equal(Force({1: token})(logits_of(seed), rows), first(history, logits_of(seed)))
    assert torch.equal(Force({3: token})(logits_of(seed), rows), last(history, logits_of(seed)))


@CASES
@given(st.integers(0, 999), st.integers(0, 4), st.floats(1, 2), st.integers(0, 6), ids)
def test_length_decay_equals_transformers(seed, start, factor, length, end) -> None:
    rows, history = after(length)
    expected = peer.ExponentialDecayLengthPenalty((start, factor), end, 0)(history, logits_of(seed))
    torch.testing.assert_close(LengthDecay(start, factor, end)(logits_of(seed), rows), expected)


def test_length_decay_ends_what_would_not_end_and_never_overflows() -> None:
    rows = [Row(0, (1,) * 5000)]
    assert LengthDecay(0, 3.0, END)(torch.full((1, 4), -2.0), rows).isfinite().all()
    table = torch.zeros(3, 3)
    table[:, END] = -1.0
    logits, state = table_prompt(table, [[1]])
    common = {"rule": Greedy(), "end_id": END, "maximum_length": 90}
    filters = [LengthDecay(5, 1.5, END)]
    [[found]] = generate(table_step(table), state, logits, filters=filters, **common)
    assert found.finished and 5 < len(found.tokens) < 10


@pytest.mark.parametrize("rule", [Greedy(), Beam(3), Sample(samples=4)], ids=repr)
def test_forced_first_and_last_tokens_through_the_loop(rule) -> None:
    for found in decoded([Suppress([END], range(5)), Force({0: 3, 5: END})], rule):
        for hypothesis in found:
            assert hypothesis.finished and hypothesis.tokens[0] == 3 and len(hypothesis.tokens) == 5


def test_a_certain_token_costs_nothing_and_a_bias_of_minus_infinity_forbids() -> None:
    [[found], _] = decoded([Force({0: 3, 1: END})], Greedy())
    assert (found.tokens, found.score) == ((3,), 0.0)
    for found in decoded([Bias({3: -math.inf})], Sample(samples=50)):
        assert not any(3 in hypothesis.tokens for hypothesis in found)


def test_mistakes_are_refused() -> None:
    with pytest.raises(UserError, match="prompt 0: expected an allowed token after 0"):
        decoded([Suppress(range(SIZE))], Greedy())
    with pytest.raises(UserError, match=r"token ids in 0\.\.5, got 6"):
        decoded([Suppress([6])], Greedy())
    with pytest.raises(UserError, match="got nan"):
        Bias({1: math.nan})
    with pytest.raises(UserError, match="factor > 0"):
        LengthDecay(3, 0.0, END)
    with pytest.raises(UserError, match=r"to return logits \[2, 6\], got \[1, 6\]"):
        decoded([lambda logits, rows: logits[:1]], Greedy())
    with pytest.raises(UserError, match="got NaN"):
        decoded([lambda logits, rows: logits * math.nan], Greedy())
