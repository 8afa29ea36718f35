"""Bigram tables against counts by hand and against the chain that wrote the text."""

from __future__ import annotations

import pytest
import torch

from hanformer.errors import UserError
from hanformer.theory.repetition import repetition_risk
from hanformer.theory.transitions import transitions_of


def test_by_hand() -> None:
    found = transitions_of(["abab", "ba"])
    assert found.tokens == ("a", "b") and found.coverage == 1
    torch.testing.assert_close(found.matrix, torch.tensor([[0, 2 / 3], [2 / 3, 0]], dtype=torch.float64))
    smooth = transitions_of(["abab", "ba"], smoothing=1.0).matrix
    torch.testing.assert_close(smooth, torch.tensor([[1 / 5, 3 / 5], [3 / 5, 1 / 5]], dtype=torch.float64))


def test_the_most_frequent_are_kept() -> None:
    found = transitions_of(["aaab", "cab"], most=2)
    assert found.tokens == ("a", "b") and found.coverage == pytest.approx(4 / 5)
    torch.testing.assert_close(found.matrix, torch.tensor([[0.5, 0.5], [0, 0]], dtype=torch.float64))
    assert repetition_risk(found.matrix).measure == pytest.approx(0.25 / 0.75)


def test_a_long_text_shows_its_chain() -> None:
    matrix = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.1, 0.4], [0.3, 0.3, 0.4]], dtype=torch.float64)
    generator, state, text = torch.Generator().manual_seed(1), 0, []
    draws = torch.rand(40_000, generator=generator, dtype=torch.float64)
    for draw in draws.tolist():
        state = int((matrix[state].cumsum(0) < draw).sum())
        text.append("abc"[state])
    found = transitions_of([text])
    order = [found.tokens.index(token) for token in "abc"]
    torch.testing.assert_close(found.matrix[order][:, order], matrix, atol=0.02, rtol=0)
    assert repetition_risk(found.matrix).measure == pytest.approx(repetition_risk(matrix).measure, abs=0.03)


@pytest.mark.parametrize(("texts", "said"), [([], "two tokens"), (["a", "", "b"], "two tokens")])
def test_nothing_to_count(texts: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        transitions_of(texts)
    for smoothing in (-1, float("inf"), float("nan")):
        with pytest.raises(UserError, match="smoothing"):
            transitions_of(["ab"], smoothing=smoothing)
