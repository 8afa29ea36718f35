"""CoSENT: pairs that are more alike should have the higher cosine."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.numerics import unit, widened


def cosent(similarities: Tensor, labels: Tensor, scale: float = 20.0) -> Tensor:
    """log(1 + Σ_{y_i > y_j} e^{scale (c_j − c_i)}) over all pairs of a batch: one number, a scalar.

    CoSENT：标签更高的句对，余弦也应更高；只看次序，与 Spearman 系数一致。

    Only the order of the labels counts, be they 0 and 1 or grades. Pairs of one label alone give 0.
    Shapes: similarities c [B], labels y [B]; memory B². Raises UserError for other shapes.
    Source: kexue.fm/archives/8847.
    """
    if similarities.dim() != 1 or labels.shape != similarities.shape:
        raise UserError(
            f"cosent: expected one similarity and one label a pair, got {list(similarities.shape)} "
            f"and {list(labels.shape)}"
        )
    wide = scale * widened(similarities)
    ordered = labels[:, None] > labels[None, :]
    excess = (wide[None, :] - wide[:, None]).masked_fill(~ordered, -math.inf)
    return F.pad(excess.flatten(), (0, 1)).logsumexp(-1)


def pair_cosines(vectors: Tensor) -> Tensor:
    """The cosine of rows 2i and 2i + 1: [2B, C] to [B]. 相邻两行的余弦。

    Raises UserError for an odd number of rows.
    """
    if vectors.dim() != 2 or len(vectors) % 2:
        raise UserError(
            f"pair_cosines: expected pairs in neighbouring rows, [2B, C], got {list(vectors.shape)}"
        )
    wide = unit(widened(vectors))
    return (wide[0::2] * wide[1::2]).sum(-1)
