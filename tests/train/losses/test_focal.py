from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from hanformer.train.losses.focal import focal, focal_of_logs
from tests.harness import EXACT


@pytest.mark.parametrize("alpha", [0.25, 0.5])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_definition(alpha: float, gamma: float) -> None:
    logits, targets = torch.randn(6, 4).double(), torch.rand(6, 4).double().round(decimals=1)
    p = logits.sigmoid()
    expected = -alpha * targets * (1 - p) ** gamma * p.log()
    expected = expected - (1 - alpha) * (1 - targets) * p**gamma * (1 - p).log()
    torch.testing.assert_close(focal(logits, targets, alpha=alpha, gamma=gamma), expected, **EXACT)


def test_half_of_binary_cross_entropy() -> None:
    logits, targets = torch.randn(9).double(), (torch.rand(9) > 0.5).double()
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") / 2
    torch.testing.assert_close(focal(logits, targets, alpha=0.5, gamma=0.0), expected, **EXACT)
    torch.testing.assert_close(focal(logits, targets.bool(), alpha=0.5, gamma=0.0), expected, **EXACT)


def test_a_product_of_probabilities() -> None:
    """DGCNN: p is the pointer's sigmoid times that of "there is an answer"."""
    pointer, answer = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    targets = torch.tensor([1.0, 0, 0, 1, 0])
    log_p = F.logsigmoid(pointer) + F.logsigmoid(answer)
    found = focal_of_logs(log_p, (-log_p.expm1()).log(), targets)
    p = pointer.sigmoid() * answer.sigmoid()
    expected = torch.where(targets > 0, -0.25 * (1 - p) ** 2 * p.log(), -0.75 * p**2 * (1 - p).log())
    torch.testing.assert_close(found, expected)


def test_masked_logits_contribute_nothing() -> None:
    logits = torch.tensor([-math.inf, 1.0], requires_grad=True)
    for targets in (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0])):
        found = focal(logits, targets)
        assert found[0] == 0 and found[1] > 0
        (gradient,) = torch.autograd.grad(found.sum(), logits)
        assert gradient[0] == 0 and gradient[1].isfinite()
