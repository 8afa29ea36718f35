"""What every loss must satisfy, whatever it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.harness.material import EXACT


@dataclass(frozen=True, eq=False)
class LossCase:
    """A loss with material: `function(scores, labels)` gives one number a row, or one for all.

    `scores` float64 [R, ...] and `labels` [R, ...]; at the scores `perfect` the loss of every row is `least`. Rows are
    permuted `block` at a time. A loss that multiplies in half precision equals the wide one to `half` alone.
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    scores: Tensor
    labels: Tensor
    perfect: Tensor
    least: float | Tensor = 0.0
    block: int = 1
    one_for_all: bool = False
    twice: bool = True
    half: float = 0.0


def check_loss(case: LossCase) -> None:
    """Every check below."""
    check_shape(case)
    check_input_is_left_alone(case)
    check_gradient(case)
    check_limits(case)
    check_permutation(case)
    check_half_precision(case)
    check_no_rows(case)


def check_shape(case: LossCase) -> None:
    """One finite number a row, not below 0, in the precision of the scores."""
    for dtype in (torch.float64, torch.float32):
        found = case.function(case.scores.to(dtype), case.labels)
        assert found.shape == (() if case.one_for_all else (len(case.scores),))
        assert found.dtype == dtype and found.isfinite().all() and (found >= 0).all()
        assert (found > 0).any(), "this material shows nothing"


def check_input_is_left_alone(case: LossCase) -> None:
    scores, labels = case.scores.clone(), case.labels.clone()
    case.function(scores.requires_grad_(), labels).sum().backward()
    assert torch.equal(scores, case.scores) and torch.equal(labels, case.labels)


def check_gradient(case: LossCase) -> None:
    """The gradient is that of differences, and its own gradient too."""
    scores = case.scores.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: case.function(x, case.labels), scores)
    if case.twice:
        assert torch.autograd.gradgradcheck(lambda x: case.function(x, case.labels).sum(), scores)


def check_limits(case: LossCase) -> None:
    """The least loss is reached, and far away neither the loss nor its gradient breaks."""
    found = case.function(case.perfect, case.labels)
    least = torch.as_tensor(case.least, dtype=found.dtype).expand_as(found)
    torch.testing.assert_close(found, least, rtol=1e-9, atol=1e-9)
    for factor in (1e4, -1e4, 1e-30, 0.0):
        scores = (case.scores.float() * factor).requires_grad_()
        far = case.function(scores, case.labels)
        far.sum().backward()
        assert far.isfinite().all() and scores.grad.isfinite().all(), (
            f"{case.name} breaks at scores x {factor}"
        )


def check_permutation(case: LossCase) -> None:
    """Rows in another order have the same losses, in that order."""
    blocks = torch.randperm(len(case.scores) // case.block)
    order = (blocks[:, None] * case.block + torch.arange(case.block)).flatten()
    found = case.function(case.scores[order], case.labels[order])
    plain = case.function(case.scores, case.labels)
    torch.testing.assert_close(found, plain if case.one_for_all else plain[order], **EXACT)


def check_half_precision(case: LossCase) -> None:
    """Half-precision scores are summed in fp32; the gradient comes back in their dtype."""
    for dtype in (torch.bfloat16, torch.float16):
        scores = case.scores.to(dtype).requires_grad_()
        found = case.function(scores, case.labels)
        found.sum().backward()
        assert found.dtype == torch.float32
        assert scores.grad is not None and scores.grad.dtype == dtype and scores.grad.isfinite().all()
        wide = case.function(scores.detach().float(), case.labels)
        torch.testing.assert_close(found, wide, rtol=case.half, atol=case.half)


def check_no_rows(case: LossCase) -> None:
    """No rows have no loss, and a gradient of zeros."""
    scores = case.scores[:0].clone().requires_grad_()
    total = case.function(scores, case.labels[:0]).sum()
    total.backward()
    assert total == 0 and scores.grad is not None
