"""Penalties against transformers on equal rows, against their definition on ragged ones."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as peer

from hanformer.decode import Beam, Greedy, Sample
from hanformer.decode.penalties import CountPenalty, NoRepeat, RepetitionPenalty
from hanformer.decode.search import Row
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table

SIZE = 6
tokens = st.lists(st.integers(0, SIZE - 1), max_size=9)
ragged = st.lists(tokens, min_size=1, max_size=4)
CASES = settings(max_examples=40, deadline=None, derandomize=True)


def logits_for(rows: list, seed: int) -> torch.Tensor:
    return torch.randn(len(rows), SIZE, generator=torch.Generator().manual_seed(seed))


def rows_for(histories: list[list[int]]) -> list[Row]:
    return [Row(prompt, tuple(history)) for prompt, history in enumerate(histories)]


@CASES
@given(ragged, st.integers(0, 999), st.floats(0.5, 2))
def test_repetition_penalty_equals_transformers_row_by_row(histories, seed, theta) -> None:
    logits = logits_for(histories, seed)
    found = RepetitionPenalty(theta)(logits, rows_for(histories))
    for row, history in enumerate(histories):
        ids = torch.tensor([history], dtype=torch.long)
        expected = peer.RepetitionPenaltyLogitsProcessor(theta)(ids, logits[row : row + 1].clone())
        torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-6, atol=0)


@CASES
@given(ragged, st.integers(0, 999), st.integers(1, 4))
def test_no_repeat_equals_transformers_row_by_row(histories, seed, size) -> None:
    logits = logits_for(histories, seed)
    found = NoRepeat(size)(logits, rows_for(histories))
    for row, history in enumerate(histories):
        ids = torch.tensor([history], dtype=torch.long)
        expected = peer.NoRepeatNGramLogitsProcessor(size)(ids, logits[row : row + 1].clone())
        assert torch.equal(found[row : row + 1], expected)


@CASES
@given(ragged, ragged, st.integers(0, 999), st.floats(-2, 2), st.floats(-2, 2))
def test_count_penalty_is_its_definition(histories, prompts, seed, presence, frequency) -> None:
    prompts = (prompts * 4)[: len(histories)]
    logits = logits_for(histories, seed).double()
    found = CountPenalty(presence, frequency, prompts)(logits, rows_for(histories))
    for row, (history, prompt) in enumerate(zip(histories, prompts, strict=True)):
        counts = Counter(prompt + history)
        for token in range(SIZE):
            paid = presence * (counts[token] > 0) + frequency * counts[token]
            assert float(found[row, token]) == pytest.approx(float(logits[row, token]) - paid)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 999), st.integers(1, 3), st.sampled_from([Greedy(), Beam(3, 3), Sample(samples=3)]))
def test_no_n_gram_comes_twice_in_what_is_generated(seed, size, rule) -> None:
    table = random_table(8, 1, seed)
    table[:, END] -= 3
    logits_filter = NoRepeat(size, [[3], [5, 4]])
    for prompt, found in zip([[3], [5, 4]], _decode(table, rule, logits_filter), strict=True):
        for hypothesis in found:
            whole = (*prompt, *hypothesis.tokens)
            grams = [whole[place : place + size] for place in range(len(whole) - size + 1)]
            assert len(grams) == len(set(grams))


def _decode(table: torch.Tensor, rule, each) -> list:
    from hanformer.decode import generate, table_prompt, table_step

    logits, state = table_prompt(table, [[3], [5, 4]])
    return generate(table_step(table), state, logits, rule=rule, end_id=END, maximum_length=7, filters=[each])


def test_beam_pays_what_greedy_pays() -> None:
    table = random_table(8, 1, 2)
    rules = (Greedy(), Beam(1, 1))
    first, second = (_decode(table, rule, RepetitionPenalty(1.5)) for rule in rules)
    assert [h[0].tokens for h in first] == [h[0].tokens for h in second]
    assert first != [decode(table, [p], Greedy(), 7)[0] for p in ([3], [4])]


def test_prompts_must_be_given_for_the_whole_batch_and_strange_ids_are_passed_over() -> None:
    logits = torch.ones(2, SIZE)
    assert torch.equal(RepetitionPenalty(2.0, [[99], [99]])(logits, rows_for([[], []])), logits)
    with pytest.raises(UserError, match="got 1 prompts"):
        RepetitionPenalty(2.0, [[1]])(logits, rows_for([[], []]))


@pytest.mark.parametrize(
    "make", [lambda: RepetitionPenalty(0), lambda: CountPenalty(math.nan), lambda: NoRepeat(0)]
)
def test_impossible_settings_are_refused(make) -> None:
    with pytest.raises(UserError, match="expected"):
        make()
