from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hanformer.train.losses.cross_entropy import cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_torch_and_the_formula(smoothing: float) -> None:
    logits = torch.randn(3, 4, 7, dtype=torch.float64)
    targets = torch.randint(7, (3, 4))
    targets[0, 1] = targets[2, 3] = -100
    loss = cross_entropy(logits, targets, label_smoothing=smoothing)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing)
    torch.testing.assert_close(loss.mean(), expected)
    logs = logits.log_softmax(-1)
    naive = sum(
        -(1 - smoothing) * logs[i, j, targets[i, j]] - smoothing * logs[i, j].mean()
        for i in range(3)
        for j in range(4)
        if targets[i, j] != -100
    )
    torch.testing.assert_close(loss.total, naive)
    assert loss.count == 10


def test_weights_count_as_repetitions() -> None:
    logits, targets = torch.randn(4, 5), torch.tensor([1, 2, -100, 0])
    weights = torch.tensor([2.0, 0.0, 3.0, 1.0])
    loss = cross_entropy(logits, targets, weights=weights)
    repeated = cross_entropy(logits[[0, 0, 3]], targets[[0, 0, 3]])
    torch.testing.assert_close(loss.total, repeated.total)
    assert float(loss.count) == float(repeated.count) == 3


def test_half_precision_is_summed_in_fp32() -> None:
    logits, targets = torch.randn(2000, 8).bfloat16(), torch.randint(8, (2000,))
    loss = cross_entropy(logits, targets)
    assert loss.total.dtype == torch.float32
    torch.testing.assert_close(loss.total, cross_entropy(logits.float(), targets).total)


def test_empty_and_all_ignored_are_zero_with_a_gradient() -> None:
    for targets in (torch.zeros(0, dtype=torch.long), torch.full((3,), -100)):
        logits = torch.randn(len(targets), 5, requires_grad=True)
        loss = cross_entropy(logits, targets)
        loss.total.backward()
        assert loss.total == 0 and loss.count == 0
        assert logits.grad is not None and not logits.grad.any()


def test_gradient() -> None:
    logits = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    targets, weights = torch.tensor([0, -100, 4]), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: cross_entropy(x, targets, label_smoothing=0.2, weights=weights).total, logits
    )
