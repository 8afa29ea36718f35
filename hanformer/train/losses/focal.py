"""Focal loss: binary cross-entropy that looks away from what is already right."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from hanformer.train.losses.numerics import widened


def focal(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """−α t (1 − p)^γ log p − (1 − α)(1 − t) p^γ log(1 − p) with p = sigmoid(logit), one number a logit.

    焦点损失：降低易分样本的权重，缓解正负样本不平衡。

    With α = 1/2 and γ = 0 it is half of binary cross-entropy. A logit of −inf is masked out and contributes nothing.
    Shapes: [...] twice, targets in [0, 1]; to [...], in fp32 at least.
    Source: Lin et al., arXiv 1708.02002.
    """
    scores = widened(logits)
    lost = scores == -math.inf
    scores = scores.masked_fill(lost, 0.0)
    each = focal_of_logs(F.logsigmoid(scores), F.logsigmoid(-scores), targets, alpha=alpha, gamma=gamma)
    return each.masked_fill(lost, 0.0)


def focal_of_logs(
    log_p: Tensor, log_not_p: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """`focal` from log p and log(1 − p), for a p that is not one sigmoid: a product of two, for example.

    由 log p 与 log(1 − p) 计算，适用于 p 不是单个 sigmoid 的情形。
    """
    targets = targets.to(log_p.dtype)
    positive = alpha * targets * (gamma * log_not_p).exp() * log_p
    negative = (1 - alpha) * (1 - targets) * (gamma * log_p).exp() * log_not_p
    return -(positive + negative)
