from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.exactly_k import exactly_k, log_set_sums
from tests.harness import EXACT


def test_values_computed_by_hand() -> None:
    sums = log_set_sums(torch.tensor([2.0, -1.0, 0.5, -3.0]).double(), 3).exp()
    expected = torch.tensor([1, 9.4554438792, 15.9755865276, 5.2537523967]).double()
    torch.testing.assert_close(sums, expected, rtol=1e-7, atol=0)


def test_every_set_enumerated() -> None:
    scores = torch.randn(5, 6, dtype=torch.float64)
    targets = torch.zeros(5, 6, dtype=torch.float64)
    for row in range(5):
        targets[row, torch.randperm(6)[:row]] = 1
    for row, loss in enumerate(exactly_k(scores, targets).tolist()):
        sets = [sum(scores[row, list(chosen)].tolist()) for chosen in combinations(range(6), row)]
        own = float((scores[row] * targets[row]).sum())
        assert math.isclose(loss, math.log(sum(map(math.exp, sets))) - own, abs_tol=1e-10)


def test_one_label_is_softmax_cross_entropy() -> None:
    scores, labels = torch.randn(4, 7).double(), torch.tensor([0, 6, 3, 3])
    expected = F.cross_entropy(scores, labels, reduction="none")
    torch.testing.assert_close(exactly_k(scores, F.one_hot(labels, 7)), expected, **EXACT)


def test_masked_classes_take_no_part() -> None:
    scores = torch.randn(3, 5).double()
    targets = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
    wider = torch.cat([torch.full((3, 2), -math.inf), scores], 1).requires_grad_()
    found = exactly_k(wider, F.pad(targets, (2, 0)))
    torch.testing.assert_close(found, exactly_k(scores, targets), **EXACT)
    found.sum().backward()
    assert wider.grad.isfinite().all() and not wider.grad[:, :2].any()


def test_what_does_not_fit() -> None:
    with pytest.raises(UserError, match="one target a logit"):
        exactly_k(torch.zeros(2, 3), torch.zeros(2))
    assert exactly_k(torch.zeros(2, 0), torch.zeros(2, 0)).tolist() == [0, 0]
