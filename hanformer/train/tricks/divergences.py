"""How far two sets of logits are apart, summed over rows: the measures of R-Drop and virtual adversarial training."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hanformer.train.losses.numerics import widened
from hanformer.train.losses.zlpr import zlpr_divergence

Divergence = Callable[[Tensor, Tensor], Tensor]
"""Two sets of logits [M, V] to a scalar, 0 where they agree. 两组 logits 之间的差异之和。"""


def divergence(given: Tensor, logits: Tensor) -> Tensor:
    """Σ KL(p ‖ q) = Σ p (log p − log q), p and q the softmax of `given` and `logits` [..., V].

    KL 散度之和。

    Half-precision logits are summed in fp32, here and in the others.
    """
    log_p, log_q = widened(given).log_softmax(-1), widened(logits).log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum()


def symmetric_divergence(left: Tensor, right: Tensor) -> Tensor:
    """Σ KL(p ‖ q) + KL(q ‖ p) = Σ (p − q)(log p − log q), p and q the softmax of logits [..., V].

    对称 KL 散度之和。
    """
    log_p, log_q = widened(left).log_softmax(-1), widened(right).log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()


def label_divergence(given: Tensor, logits: Tensor) -> Tensor:
    """Σ `zlpr_divergence` of scores [..., K] whose labels do not exclude each other.

    多标签打分之间的散度之和。
    """
    return zlpr_divergence(given, logits).sum()


def symmetric_label_divergence(left: Tensor, right: Tensor) -> Tensor:
    """`label_divergence` both ways. 双向的多标签散度之和。"""
    return label_divergence(left, right) + label_divergence(right, left)
