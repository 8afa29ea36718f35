"""Noise on embedded tokens, the oldest regulariser."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_strength
from hanformer.train.tricks.rows import Rows
from hanformer.train.tricks.seam import Change, embeddings_changed

Batch = TypeVar("Batch")


def additive_noise(objective: Objective[Batch], strength: float) -> Objective[Batch]:
    """The objective with e + strength · n in place of each embedded token e, n ~ N(0, 1), anew in each pass.

    给词向量加上高斯噪声。

    Embeddings that start with deviation 0.02 want a strength of that order. Like dropout it acts on
    models in training mode alone, and draws from torch. Strength 0 is the objective itself.
    Raises UserError for a strength that is negative or not finite. Source: kexue.fm/archives/7466.
    """
    check_strength("noise", strength)

    def noisy(embedded: Tensor, rows: Rows) -> Tensor:
        return embedded + strength * torch.randn_like(embedded)

    return _in_training(objective, noisy) if strength else objective


def multiplicative_noise(objective: Objective[Batch], strength: float) -> Objective[Batch]:
    """The objective with e · (1 + strength · n) in place of each embedded token e, n ~ N(0, 1), entry by entry.

    给词向量乘上高斯噪声。

    In all else like `additive_noise`; here the strength is relative to what it disturbs.
    """
    check_strength("multiplicative_noise", strength)

    def noisy(embedded: Tensor, rows: Rows) -> Tensor:
        return embedded * (1 + strength * torch.randn_like(embedded))

    return _in_training(objective, noisy) if strength else objective


def _in_training(objective: Objective[Batch], change: Change) -> Objective[Batch]:
    def disturbed(model: nn.Module, batch: Batch) -> Loss:
        if not model.training:
            return objective(model, batch)
        with embeddings_changed(model, change):
            return objective(model, batch)

    return disturbed
