"""Rows of other workers, for losses that compare all examples of an update's step with each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, distributed

_idle: ContextVar[bool] = ContextVar("idle", default=False)


@contextmanager
def standing_by() -> Iterator[None]:
    """Inside, this worker gives the others no rows. 在此上下文中，本进程不向其他进程提供样本。"""
    token = _idle.set(True)
    try:
        yield
    finally:
        _idle.reset(token)


def from_others(vectors: Tensor) -> Tensor | None:
    """The vectors [M, C] that the other workers give at this moment; None where there is one process.

    其他进程此刻的向量，梯度会传回它们所在的进程。

    For `similar_pairs(vectors, others=from_others(vectors))` and its like: each worker's vectors [B, C], B of its own,
    are everyone's negatives. The gradient of every worker's loss flows back to the worker whose rows they are, so the
    summed loss and its gradient are those of one process with all the rows. Every worker must call it equally often.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    size, rank = distributed.get_world_size(), distributed.get_rank()
    if size == 1:
        return None
    counts = _counts(0 if _idle.get() else len(vectors), size, vectors.device)
    most = max(counts)
    padded = torch.cat([vectors[:most], vectors.new_zeros(max(most - len(vectors), 0), *vectors.shape[1:])])
    every: Tensor = _Everyone.apply(padded)
    if _idle.get():
        # Who stands by says nothing of the others' rows, and yet takes part in their way back.
        every = every.detach() + 0.0 * every
    return torch.cat([every[other, : counts[other]] for other in range(size) if other != rank])


def _counts(own: int, size: int, device: torch.device) -> list[int]:
    counts = torch.zeros(size, dtype=torch.int64, device=device)
    counts[distributed.get_rank()] = own
    distributed.all_reduce(counts)
    numbers: list[int] = counts.tolist()
    return numbers


class _Everyone(torch.autograd.Function):
    """[B, ...] of each worker to [W, B, ...] of all; its way back is `_Own`, and the other way round."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        found = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(found, own.contiguous())
        return torch.stack(found)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        summed: Tensor = _Own.apply(gradients[0])
        return summed


class _Own(torch.autograd.Function):
    """[W, B, ...] of each worker, what it says of all, to [B, ...]: what all together say of one's own."""

    @staticmethod
    def forward(context: Any, of_all: Tensor) -> Tensor:
        summed = of_all.contiguous().clone()
        distributed.all_reduce(summed)
        return summed[distributed.get_rank()].clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        every: Tensor = _Everyone.apply(gradients[0])
        return every
