"""Cross-entropy whose probabilities are not those of softmax."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from hanformer.errors import UserError
from hanformer.train.objective import Loss


class LogNormaliser(Protocol):
    """What makes log-probabilities of logits [..., V]. 由 logits 得到对数概率。"""

    def log(self, logits: Tensor) -> Tensor:
        """log p, in float32 at least."""
        ...


def normalised_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    normalise: LogNormaliser,
    *,
    ignore_id: int = -100,
    weights: Tensor | None = None,
) -> Loss:
    """-Σ_i w_i log p_i(y_i) with p by any normaliser, such as `TaylorSoftmax`, and the sum of the weights.

    使用任意归一化函数（如泰勒 softmax）的交叉熵之和与计数。

    Shapes: logits [..., V], targets [...] with `ignore_id` where nothing is to be predicted, weights [...] or None for
    1 everywhere. Computed in float32 at least. Raises UserError for targets of another shape.
    Source: kexue.fm/archives/7919.
    """
    if logits.shape[:-1] != targets.shape:
        raise UserError(
            f"normalised_cross_entropy: expected logits [..., V] and targets [...], got {list(logits.shape)} "
            f"and {list(targets.shape)}"
        )
    kept = targets != ignore_id
    log_probabilities = normalise.log(logits)
    chosen = log_probabilities.gather(-1, targets.masked_fill(~kept, 0)[..., None]).squeeze(-1)
    weighing = kept.to(chosen.dtype) if weights is None else weights.to(chosen.dtype) * kept
    # What nobody weighs may be infinite.
    total = -(chosen.masked_fill(weighing == 0, 0.0) * weighing).sum()
    return Loss(total, kept.sum() if weights is None else weighing.sum())
