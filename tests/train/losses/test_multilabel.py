from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.train.losses.multilabel import best_thresholds, count_labels


def naive_f1(said: list[bool], true: list[bool]) -> float:
    found = sum(s and t for s, t in zip(said, true, strict=True))
    return 2 * found / (sum(said) + sum(true)) if found else 0.0


def test_counts_by_hand() -> None:
    predicted = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]])
    targets = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]])
    counts = count_labels(predicted, targets)
    assert counts.found.tolist() == [1, 2, 0, 0]
    assert counts.invented.tolist() == [1, 0, 0, 0]
    assert counts.missed.tolist() == [0, 0, 1, 0]
    assert (counts.precision, counts.recall, counts.micro_f1) == (3 / 4, 3 / 4, 3 / 4)
    assert counts.exact_share == 2 / 3
    assert math.isnan(counts.f1_of_class[3])
    assert counts.macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_batches_add_up() -> None:
    predicted, targets = torch.rand(7, 3) > 0.5, torch.rand(7, 3) > 0.5
    whole = count_labels(predicted, targets)
    parts = count_labels(predicted[:2], targets[:2]) + count_labels(predicted[2:], targets[2:])
    for name in ("found", "invented", "missed"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))
    assert (whole.exact, whole.rows) == (parts.exact, parts.rows)
    grid = count_labels(predicted.unflatten(0, (7, 1)), targets.unflatten(0, (7, 1)))
    assert torch.equal(grid.found, whole.found) and grid.rows == 7


def test_nothing_there() -> None:
    counts = count_labels(torch.zeros(0, 3), torch.zeros(0, 3))
    measures = (counts.precision, counts.recall, counts.micro_f1, counts.macro_f1, counts.exact_share)
    assert measures == (0, 0, 0, 0, 0)


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=9))
@settings(deadline=None, derandomize=True)
def test_thresholds_are_the_best_there_are(row: list[tuple[int, bool]]) -> None:
    scores = torch.tensor([[value] for value, _ in row], dtype=torch.float32)
    true = [label for _, label in row]
    threshold = float(best_thresholds(scores, torch.tensor(true)[:, None]))
    reached = naive_f1([value > threshold for value, _ in row], true)
    every = [naive_f1([value > cut for value, _ in row], true) for cut in torch.arange(-5, 5, 0.5).tolist()]
    assert reached == max(every)
    if not any(true):
        assert not any(value > threshold for value, _ in row)


def test_thresholds_are_those_of_each_class() -> None:
    scores = torch.tensor([[3.0, -1.0], [1.0, -2.0], [-1.0, -3.0]])
    targets = torch.tensor([[1, 1], [0, 1], [0, 0]])
    assert best_thresholds(scores, targets).tolist() == [2.0, -2.5]


def test_what_does_not_fit() -> None:
    with pytest.raises(UserError, match="same shape twice"):
        count_labels(torch.zeros(2, 3), torch.zeros(2))
    for scores, targets in ((torch.zeros(0, 3), torch.zeros(0, 3)), (torch.zeros(2, 3), torch.zeros(3, 2))):
        with pytest.raises(UserError, match=r"\[rows, classes\]"):
            best_thresholds(scores, targets)
