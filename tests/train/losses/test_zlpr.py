"""ZLPR against the golden values of bert4keras, the formula written out, and its limits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.zlpr import (
    zlpr,
    zlpr_divergence,
    zlpr_labels,
    zlpr_probabilities,
    zlpr_sparse,
)
from tests.harness import EXACT

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "functions.npz")
SCORES, HARD, SOFT = [2.0, -1.0, 0.5, -3.0], [1.0, 0.0, 1.0, 0.0], [0.9, 0.2, 0.5, 0.0]


def golden(name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[f"zlpr__{name}"])


def naive(scores: list[float], targets: list[float]) -> float:
    seen = [(s, t) for s, t in zip(scores, targets, strict=True) if s != -math.inf]
    return math.log1p(sum((1 - t) * math.exp(s) for s, t in seen)) + math.log1p(
        sum(t * math.exp(-s) for s, t in seen)
    )


def test_golden() -> None:
    close = {"rtol": 1e-6, "atol": 1e-6}
    logits = golden("logits")
    torch.testing.assert_close(zlpr(logits, golden("targets")), golden("loss"), **close)
    torch.testing.assert_close(zlpr(logits, golden("soft_targets")), golden("soft_loss"), **close)
    torch.testing.assert_close(zlpr_sparse(logits, golden("sparse_indices")), golden("sparse_loss"), **close)
    masked = zlpr_sparse(logits, golden("sparse_indices_mask_zero"), mask_zero=True)
    torch.testing.assert_close(masked, golden("sparse_loss_mask_zero"), **close)


@pytest.mark.parametrize(("targets", "expected"), [(HARD, 0.9039691364), (SOFT, 1.7446297132)])
def test_values_computed_by_hand(targets: list[float], expected: float) -> None:
    scores = torch.tensor(SCORES, dtype=torch.float64)
    found = zlpr(scores, torch.tensor(targets, dtype=torch.float64))
    torch.testing.assert_close(found.item(), expected, rtol=0, atol=1e-9)


score = st.one_of(st.floats(-30, 30), st.just(-math.inf))
rows = st.lists(st.tuples(score, st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), max_size=7)


@given(rows)
@settings(deadline=None, derandomize=True)
def test_formula_masks_and_gradients(row: list[tuple[float, float, bool]]) -> None:
    scores = torch.tensor([s for s, _, _ in row], dtype=torch.float64).requires_grad_()
    targets = torch.tensor([t for _, t, _ in row], dtype=torch.float64)
    allowed = torch.tensor([a for _, _, a in row], dtype=torch.bool)
    found = zlpr(scores, targets, allowed)
    kept = [(s, t) for s, t, a in row if a]
    expected = naive([s for s, _ in kept], [t for _, t in kept])
    torch.testing.assert_close(found.item(), expected, rtol=1e-10, atol=1e-10)
    found.backward()
    assert scores.grad is not None and scores.grad.isfinite().all()
    assert not scores.grad[~allowed | (scores == -math.inf)].any()
    hidden = zlpr(scores.detach().masked_fill(~allowed, -math.inf), targets)
    torch.testing.assert_close(found.detach(), hidden)


@given(
    st.lists(score, min_size=1, max_size=6),
    st.lists(st.integers(-3, 5), max_size=6),
    st.booleans(),
)
@settings(deadline=None, derandomize=True)
def test_sparse_is_dense(scores: list[float], ids: list[int], mask_zero: bool) -> None:
    """Padding anywhere, ids that come twice, classes that are masked out."""
    ids = [min(i, len(scores) - 1) for i in ids]
    if mask_zero:
        ids = [max(i, 0) for i in ids]
    logits = torch.tensor(scores, dtype=torch.float64)
    targets = torch.tensor([float(i in ids) for i in range(len(scores))]).double()
    positives = torch.tensor(ids, dtype=torch.int64)
    first = logits.clone().requires_grad_()
    second = logits.clone().requires_grad_()
    allowed = torch.tensor([i > 0 or not mask_zero for i in range(len(scores))])
    found = zlpr_sparse(first, positives, mask_zero=mask_zero)
    expected = zlpr(second, targets, allowed)
    torch.testing.assert_close(found, expected, **EXACT)
    found.backward()
    expected.backward()
    torch.testing.assert_close(first.grad, second.grad, **EXACT)


def test_sparse_has_a_gradient_where_positives_carry_everything() -> None:
    """A difference of sums is 0 here in fp32, and clipped: no gradient would say that class 1 is too high."""
    logits = torch.tensor([40.0, 5.0], requires_grad=True)
    loss = zlpr_sparse(logits, torch.tensor([0]))
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(5.0).exp().log1p())
    torch.testing.assert_close(logits.grad[1], torch.tensor(5.0).sigmoid())


def test_gradient_vanishes_at_the_stated_probabilities() -> None:
    targets = torch.rand(4, 9, dtype=torch.float64)
    scores = (targets.logit() / 2).requires_grad_()
    zlpr(scores, targets).sum().backward()
    torch.testing.assert_close(scores.grad, torch.zeros_like(scores), **EXACT)
    torch.testing.assert_close(zlpr_probabilities(scores.detach()), targets)


def test_below_binary_cross_entropy() -> None:
    scores, targets = 3 * torch.randn(200, 6), (torch.rand(200, 6) > 0.5).float()
    binary = F.binary_cross_entropy_with_logits(scores, targets, reduction="none").sum(-1)
    found = zlpr(scores, targets)
    assert (found <= binary + 1e-5).all()
    few = (targets.sum(-1) <= 1) & ((1 - targets).sum(-1) <= 1)
    assert not few.any()
    torch.testing.assert_close(
        zlpr(scores[:, :2], torch.tensor([[0.0, 1.0]]).expand(200, 2)),
        F.binary_cross_entropy_with_logits(
            scores[:, :2], torch.tensor([[0.0, 1.0]]).expand(200, 2), reduction="none"
        ).sum(-1),
    )


def test_half_precision_at_the_ends_of_its_range() -> None:
    scores = torch.tensor([6e4, -6e4, 0.0, -math.inf], dtype=torch.float16, requires_grad=True)
    loss = zlpr(scores, torch.tensor([0.0, 1.0, 1.0, 1.0]))
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()
    many = torch.zeros(20000, dtype=torch.bfloat16)
    torch.testing.assert_close(zlpr(many, torch.zeros(20000)), torch.tensor(math.log(20001)))


def test_labels_follow_the_threshold() -> None:
    logits = torch.tensor([[-math.inf, 0.0, 0.1]])
    assert zlpr_labels(logits).tolist() == [[False, False, True]]
    assert zlpr_labels(logits, torch.tensor([-1.0, -1.0, 1.0])).tolist() == [[False, True, False]]


def test_divergence_is_a_regret() -> None:
    given, scores = 2 * torch.randn(50, 5).double(), 2 * torch.randn(50, 5).double()
    expected = zlpr(scores, torch.sigmoid(2 * given)) - zlpr(given, torch.sigmoid(2 * given))
    torch.testing.assert_close(zlpr_divergence(given, scores), expected, **EXACT)
    assert (expected > 0).all()
    masked = torch.cat([scores, torch.full((50, 1), -math.inf).double()], 1).requires_grad_()
    wider = zlpr_divergence(torch.cat([given, torch.zeros(50, 1).double()], 1), masked)
    torch.testing.assert_close(wider, expected, **EXACT)
    wider.sum().backward()
    assert masked.grad.isfinite().all() and not masked.grad[:, 5].any()
    far = torch.tensor([300.0, -300.0], requires_grad=True)
    zlpr_divergence(far, far.detach()).backward()
    assert far.grad.isfinite().all()


def test_what_does_not_fit() -> None:
    with pytest.raises(UserError, match=r"one target a logit.*zlpr_sparse"):
        zlpr(torch.zeros(2, 3), torch.zeros(2, 1))
    with pytest.raises(UserError, match=r"ids of \[2\] rows, got \[3, 1\]"):
        zlpr_sparse(torch.zeros(2, 3), torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="out of bounds"):
        zlpr_sparse(torch.zeros(2, 3), torch.tensor([[3], [0]]))


def test_empty() -> None:
    assert zlpr(torch.zeros(2, 0), torch.zeros(2, 0)).tolist() == [0, 0]
    assert zlpr_sparse(torch.zeros(2, 0), torch.full((2, 1), -1)).tolist() == [0, 0]
    assert zlpr_sparse(torch.full((1, 3), -math.inf), torch.zeros(1, 0, dtype=torch.int64)).tolist() == [0]
