"""What the losses share: wide sums, logarithms of sums that may be empty, and the way from rows to a `Loss`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hanformer.train.objective import Loss


def widened(values: Tensor) -> Tensor:
    """The values in float32 at least, in which half-precision scores are summed.

    半精度提升到 fp32，再求和。
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def log_sum(values: Tensor, dim: int) -> Tensor:
    """log Σ exp along an axis; −inf where every term is, with gradient 0 there instead of NaN.

    对数求和；全为 −inf 时结果为 −inf，梯度为零而不是 NaN。
    """
    empty = (values == -math.inf).all(dim, keepdim=True)
    found = values.masked_fill(empty, 0.0).logsumexp(dim)
    return found.masked_fill(empty.squeeze(dim), -math.inf)


def unit(vectors: Tensor) -> Tensor:
    """Each vector divided by its length, [..., C]; a zero vector stays zero, with gradient 0.

    单位化；零向量保持为零。
    """
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / length.masked_fill(length == 0, math.inf)


def sum_rows(rows: Tensor, weights: Tensor | None = None) -> Loss:
    """A loss of one number a row as an objective wants it: Σ w_i l_i, counted by Σ w_i.

    把逐行损失变为求和与计数。

    Shapes: rows [...], weights the same or None for 1 everywhere. What has weight 0 may be infinite.
    """
    if weights is None:
        return Loss(rows.sum(), rows.numel())
    weighing = weights.to(rows.dtype)
    return Loss((rows.masked_fill(weighing == 0, 0.0) * weighing).sum(), weighing.sum())
