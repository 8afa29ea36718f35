"""R-Drop: two passes with different dropout should say the same."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train.objective import Loss, Objective

Batch = TypeVar("Batch")


def r_drop(objective: Objective[Batch], strength: float) -> Objective[Batch]:
    """The objective over two passes of the same batch, plus a penalty where their distributions differ.

    R-Drop：同一批次两次不同的 dropout，惩罚两个预测分布之间的差异。

    total = (total_1 + total_2) / 2 + strength / 4 · Σ [KL(p_1 ‖ p_2) + KL(p_2 ‖ p_1)], the sum over the rows of
    outputs["logits"] [M, V]. Strength 0 is the objective itself: one pass. Meant for objectives whose count
    is the number of these rows. Dropout must draw from torch.
    Raises UserError for a strength that is negative or not finite, and an objective without these outputs.
    Source: Liang et al., arXiv 2106.14448; kexue.fm/archives/8496.
    """
    if not 0 <= strength < math.inf:
        raise UserError(f"r_drop: expected a strength of 0 or more, got {strength}")
    if not strength:
        return objective

    def doubled(model: nn.Module, batch: Batch) -> Loss:
        first, second = objective(model, batch), objective(model, batch)
        difference = symmetric_divergence(_logits(first), _logits(second))
        total = (first.total + second.total) / 2 + strength / 4 * difference
        return Loss(total, first.count, first.outputs)

    return doubled


def symmetric_divergence(left: Tensor, right: Tensor) -> Tensor:
    """Σ KL(p ‖ q) + KL(q ‖ p) = Σ (p − q)(log p − log q), p and q the softmax of logits [..., V].

    对称 KL 散度之和。

    Half-precision logits are summed in fp32.
    """
    wide = torch.promote_types(left.dtype, torch.float32)
    log_p, log_q = left.to(wide).log_softmax(-1), right.to(wide).log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()


def _logits(loss: Loss) -> Tensor:
    if "logits" not in loss.outputs:
        raise UserError('r_drop: expected an objective whose loss has outputs["logits"]; wrap another one')
    return loss.outputs["logits"]
