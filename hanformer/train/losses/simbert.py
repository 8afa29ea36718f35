"""SimBERT's similarity: the two sentences of a pair find each other among all of the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.numerics import unit, widened


def similar_pairs(vectors: Tensor, scale: float = 30.0, *, others: Tensor | None = None) -> Tensor:
    """−log softmax(scale · cos(v_i, v_j)) over all j ≠ i at the partner of i, one number a row.

    SimBERT 的批内相似度损失：第 2i 行与第 2i+1 行互为正例，其余行均为负例，不与自身比较。

    Rows 2i and 2i + 1 are partners: shuffle pairs, never rows. `others`, as from other workers, are negatives for all
    and get no loss of their own here. One pair alone has nothing to be told from: its loss is 0.
    Shapes: vectors [2B, C], others [M, C] or None; to [2B], in fp32 at least.
    Raises UserError for an odd number of rows. Source: kexue.fm/archives/7427 (scale 30).
    """
    count = len(vectors)
    if vectors.dim() != 2 or count % 2:
        raise UserError(
            f"similar_pairs: expected pairs in neighbouring rows, [2B, C], got {list(vectors.shape)}; "
            "batch whole pairs"
        )
    own = unit(widened(vectors))
    keys = own if others is None else torch.cat([own, unit(widened(others))])
    itself = torch.eye(count, len(keys), dtype=torch.bool, device=own.device)
    logits = (scale * (own @ keys.T)).masked_fill(itself, -math.inf)
    partner = torch.arange(count, device=own.device) ^ 1
    return F.cross_entropy(logits, partner, reduction="none")
