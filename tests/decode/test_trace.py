"""Scores and alternatives per token: sums equal what the rules report, ragged rows equal single ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode import Sample, table_prompt, table_step, trace
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table

SIZE = 6
rows = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=5), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 999), rows, st.integers(0, SIZE + 2))
def test_equals_the_table(seed, continuations, count) -> None:
    table = random_table(SIZE, 1, seed)
    prompts = [[token % SIZE] for token in range(len(continuations))]
    logits, state = table_prompt(table, prompts)
    found, log_p = trace(table_step(table), state, logits, continuations, count), table.log_softmax(-1)
    for [last], tokens, scores in zip(prompts, continuations, found, strict=True):
        assert [score.token for score in scores] == tokens
        for score in scores:
            ranked = log_p[last].sort(descending=True)
            assert score.log_probability == pytest.approx(float(log_p[last, score.token]))
            assert int(ranked.indices[score.rank]) == score.token
            assert [token for _, token in score.alternatives] == ranked.indices[:count].tolist()
            assert [p for p, _ in score.alternatives] == pytest.approx(ranked.values[:count].tolist())
            last = score.token


def test_sums_are_the_scores_of_the_hypotheses() -> None:
    table = random_table(SIZE, 1, 4)
    [found] = decode(table, [[2]], Sample(samples=5), 6)
    whole = [[*h.tokens, END] if h.finished else list(h.tokens) for h in found]
    logits, state = table_prompt(table, [[2]] * 5)
    for scores, hypothesis in zip(trace(table_step(table), state, logits, whole), found, strict=True):
        assert sum(score.log_probability for score in scores) == pytest.approx(hypothesis.score)


def test_mistakes_are_refused() -> None:
    table = random_table(SIZE, 1, 4)
    logits, state = table_prompt(table, [[2]])
    for bad, message in (([], "expected 1 continuations"), ([[9]], r"ids in 0\.\.5, got 9")):
        with pytest.raises(UserError, match=message):
            trace(table_step(table), state, logits, bad)
    with pytest.raises(UserError, match="got NaN"):
        trace(table_step(table), state, logits * torch.nan, [[1]])
    assert trace(table_step(table), state, logits, [[]]) == [[]]
