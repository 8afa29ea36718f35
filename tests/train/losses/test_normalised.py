"""Cross-entropy over a Taylor softmax."""

from __future__ import annotations

import pytest
import torch

from hanformer.errors import UserError
from hanformer.nn.functional.normalisers import TaylorSoftmax
from hanformer.train.losses.normalised import normalised_cross_entropy


def test_against_the_weights() -> None:
    logits, targets = torch.randn(2, 3, 5, dtype=torch.float64), torch.tensor([[0, -100, 4], [2, 2, -100]])
    loss = normalised_cross_entropy(logits, targets, TaylorSoftmax(4))
    probabilities = TaylorSoftmax(4)(logits)
    expected = -sum(
        probabilities[b, t, targets[b, t]].log() for b in range(2) for t in range(3) if targets[b, t] >= 0
    )
    torch.testing.assert_close(loss.total, expected)
    assert int(loss.count) == 4


def test_weights() -> None:
    logits, targets = torch.randn(3, 5), torch.tensor([1, -100, 2])
    loss = normalised_cross_entropy(logits, targets, TaylorSoftmax(), weights=torch.tensor([2.0, 5.0, 0.0]))
    expected = -2 * TaylorSoftmax()(logits)[0, 1].log()
    torch.testing.assert_close(loss.total, expected)
    assert float(loss.count) == 2


def test_gradient() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 5, -100, 3])
    assert torch.autograd.gradcheck(
        lambda x: normalised_cross_entropy(x, targets, TaylorSoftmax(2, monotone=True)).total, logits
    )


def test_learning() -> None:
    """A linear classifier learns to name the largest of its inputs."""
    inputs = torch.randn(200, 4)
    table, targets = torch.zeros(4, 4, requires_grad=True), inputs.argmax(-1)
    for _ in range(200):
        loss = normalised_cross_entropy(inputs @ table, targets, TaylorSoftmax())
        (slope,) = torch.autograd.grad(loss.total / loss.count, table)
        with torch.no_grad():
            table -= slope
    assert ((inputs @ table).argmax(-1) == targets).float().mean() > 0.9


def test_shapes() -> None:
    with pytest.raises(UserError, match=r"expected logits \[..., V\] and targets"):
        normalised_cross_entropy(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), TaylorSoftmax())
