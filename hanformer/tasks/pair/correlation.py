"""How far two measurements of the same things agree."""

from __future__ import annotations

import torch
from torch import Tensor

from hanformer.errors import UserError


def pearson(left: Tensor, right: Tensor) -> float:
    """The linear correlation of [n] and [n], in float64; 0 where one of them is constant.

    皮尔逊相关系数；一方为常数时为 0。

    Raises UserError for other shapes.
    """
    if left.dim() != 1 or left.shape != right.shape or not len(left):
        raise UserError(
            f"correlation: expected two lists of one length, got {list(left.shape)} and {list(right.shape)}"
        )
    first, second = (values.double() - values.double().mean() for values in (left, right))
    size = first.norm() * second.norm()
    return float(first @ second / size) if size > 0 else 0.0


def spearman(left: Tensor, right: Tensor) -> float:
    """The correlation of ranks, equal values sharing their mean rank: [n] and [n]. 斯皮尔曼相关系数。

    Raises UserError as `pearson` does.
    """
    return pearson(ranks(left), ranks(right))


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing the mean of theirs: [n] to float64 [n]. 秩，并列取平均。"""
    _, places, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts.double() - 1) / 2)[places]
