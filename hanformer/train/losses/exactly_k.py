"""Softmax over sets of labels: for when it is known how many labels a row has."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.numerics import log_sum, widened


def exactly_k(logits: Tensor, targets: Tensor) -> Tensor:
    """log Z_k − Σ_{positive} s_i, with Z_k the sum of e^{score} over all sets of k classes, one number a row.

    已知标签个数 k 时的组合 softmax：在所有 k 元子集上归一化。

    k is each row's own number of labels; 1 is softmax cross-entropy. A class with score −inf takes no part.
    Shapes: logits [..., K], targets 0 or 1 [..., K]; to [...]. K small steps, each over [..., max k].
    Raises UserError for targets of another shape. Source: kexue.fm/archives/7359.
    """
    if targets.shape != logits.shape:
        raise UserError(
            f"exactly_k: expected one target a logit, {list(logits.shape)}, got {list(targets.shape)}"
        )
    scores, positive = widened(logits), targets.bool()
    counts = positive.sum(-1, keepdim=True)
    most = int(counts.max()) if counts.numel() else 0
    normaliser = log_set_sums(scores, most).gather(-1, counts).squeeze(-1)
    return normaliser - scores.masked_fill(~positive, 0.0).sum(-1)


def log_set_sums(scores: Tensor, most: int) -> Tensor:
    """log Z_0 ... log Z_most, Z_k = Σ over sets of k classes of Π e^{s_i}: [..., K] to [..., most + 1].

    各 k 的对数配分函数（初等对称多项式）。

    Z_k ← Z_k + e^{s_i} Z_{k−1}, class by class and all terms positive, where Newton's recursion alternates.
    """
    start = torch.full((*scores.shape[:-1], most + 1), -math.inf, dtype=scores.dtype, device=scores.device)
    sums = start.index_fill(-1, torch.tensor([0], device=scores.device), 0.0)
    for score in scores.unbind(-1):
        longer = F.pad(sums[..., :-1], (1, 0), value=-math.inf) + score[..., None]
        sums = log_sum(torch.stack([sums, longer], -1), -1)
    return sums
