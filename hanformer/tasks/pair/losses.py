"""The losses that train vectors of texts, by their words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from hanformer.train.gathering import from_others
from hanformer.train.losses.cosent import cosent, pair_cosines
from hanformer.train.losses.numerics import sum_rows
from hanformer.train.losses.simbert import similar_pairs
from hanformer.train.losses.simcse import simcse
from hanformer.train.objective import Loss

VectorLoss = Callable[[Tensor, Tensor, float], Loss]
"""Vectors [2B, C] of pairs in neighbouring rows, labels [B] and the scale, to a loss. 由向量与标签得到损失。"""


@dataclass(frozen=True)
class VectorKind:
    """A loss of vectors: what it computes, its published scale, and whether grades (or only pairs) are its labels.

    向量损失：计算方式、默认尺度，以及需要的标签。

    `grades`: every pair needs a number. `twice`: a text is its own partner, under another dropout.
    """

    compute: VectorLoss
    scale: float
    grades: bool = False
    twice: bool = False


def _cosent(vectors: Tensor, labels: Tensor, scale: float) -> Loss:
    # One number for the whole batch, which weighs as many pairs as it has.
    return Loss(cosent(pair_cosines(vectors), labels, scale) * len(labels), len(labels))


def _simbert(vectors: Tensor, labels: Tensor, scale: float) -> Loss:
    return sum_rows(similar_pairs(vectors, scale, others=from_others(vectors)))


def _simcse(vectors: Tensor, labels: Tensor, scale: float) -> Loss:
    return sum_rows(simcse(vectors, scale, others=from_others(vectors)))


VECTOR_LOSSES: dict[str, VectorKind] = {
    "cosent": VectorKind(_cosent, 20.0, grades=True),
    "simbert": VectorKind(_simbert, 30.0),
    "simcse": VectorKind(_simcse, 20.0, twice=True),
}
