"""Cross-entropy over tokens, with label smoothing and weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hanformer.train.objective import Loss


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    ignore_id: int = -100,
    weights: Tensor | None = None,
) -> Loss:
    """Negative log-probability of the targets, summed, with the number of targets (or the sum of weights).

    词元交叉熵之和与计数；支持标签平滑与逐词元权重。

    total = sum_i w_i [ -(1 - s) log p_i(y_i) - s / V sum_v log p_i(v) ], s the smoothing, V the vocabulary
    size. logits: [..., V] (bf16 and fp16 are summed in fp32); targets: [...] ids, `ignore_id` where nothing
    is to be predicted; weights: [...] or None for 1 everywhere. count: sum of w_i over the targets that are
    not ignored.
    Source: Szegedy et al., arXiv 1512.00567 (smoothing).
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2)
    labels = targets.flatten()
    kept = labels != ignore_id
    if weights is None:
        total = F.cross_entropy(
            wide, labels, reduction="sum", ignore_index=ignore_id, label_smoothing=label_smoothing
        )
        return Loss(total, kept.sum())
    each = F.cross_entropy(
        wide, labels, reduction="none", ignore_index=ignore_id, label_smoothing=label_smoothing
    )
    weighing = weights.flatten().to(each.dtype) * kept
    return Loss((each * weighing).sum(), weighing.sum())
