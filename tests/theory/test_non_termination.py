"""The rate of non-termination of generated rows: counted by hand, and the geometric law of a Markov chain."""

from __future__ import annotations

import math

import pytest
import torch

from hanformer.decode import Hypothesis, KeepEnd, Sample, TopK, generate, table_prompt, table_step
from hanformer.errors import UserError
from hanformer.theory.termination import NonTermination, certain_end, non_termination


def row(length: int, finished: bool) -> Hypothesis:
    return Hypothesis((1,) * length, 0.0, finished)


def test_counted_by_hand() -> None:
    rows = [row(0, True), row(2, True), row(4, True), row(5, False)]
    found = non_termination(rows, [1, 2, 3, 5])
    assert found == NonTermination(0.25, (1, 2, 3, 5), (0.75, 0.75, 0.5, 0.25))


def sampled(top_k: int | None, keep_end: bool, length: int) -> NonTermination:
    """1000 rows of a chain whose end token has probability 0.05 and is the least of five."""
    table = torch.tensor([0.05, 0.35, 0.25, 0.2, 0.15]).log().expand(5, 5).contiguous()
    cut = () if top_k is None else (KeepEnd(TopK(top_k), 0) if keep_end else TopK(top_k),)
    logits, state = table_prompt(table, [[1]])
    (rows,) = generate(
        table_step(table),
        state,
        logits,
        rule=Sample(seed=5, samples=1000, more=cut),
        end_id=0,
        maximum_length=length,
        minimum_length=0,
    )
    return non_termination(rows, range(1, length + 1))


def test_a_chain_follows_the_geometric_law() -> None:
    for found, p in ((sampled(None, False, 25), 0.05), (sampled(2, True, 25), 0.05 / 0.65)):
        for length, share in zip(found.lengths, found.curve, strict=True):
            expected = (1 - p) ** length
            assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 1000)


def test_an_incomplete_decoder_never_stops() -> None:
    assert set(sampled(2, False, 8).curve) == {1.0}


def test_mistakes_are_refused() -> None:
    with pytest.raises(
        UserError, match="expected rows of 9 tokens where they have not ended, got one cut at 5"
    ):
        non_termination([row(5, False)], [3, 9])
    with pytest.raises(UserError, match="at least one"):
        non_termination([], [3])
    for lengths in ([], [0, 1], [2, 2], [3, 1]):
        with pytest.raises(UserError, match="rising numbers"):
            non_termination([row(1, True)], lengths)
    with pytest.raises(UserError, match="epsilon between 0 and 1"):
        certain_end(0.0)
