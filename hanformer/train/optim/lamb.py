"""LAMB: Adam whose step of each matrix is scaled to the matrix, with torch's fused kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hanformer.train.optim.base import ParameterGroups, Portion, pieces
from hanformer.train.optim.moments import FusedAdam
from hanformer.train.options import TrainOptions

#: Elements of a piece on a CPU: larger than for rules of fewer calls, which cost as much as a piece in the cache saves.
_PIECE = 1 << 19


class Lamb(FusedAdam):
    """w ← w + r d, d = −η (m̂ / (√v̂ + ε) + λ w) of AdamW, r = ‖w‖ / ‖d / η‖ for each tensor.

    LAMB：每个张量的更新量按参数范数缩放。

    r is 1 where either norm is 0, and for the kinds in `spare`. What `LayerAdaptation` makes of AdamW, to rounding, in
    less time and memory: the kernel moves a scratch of the size of the largest tensor, not the weights.
    Raises UserError for numbers out of range. Source: You et al., arXiv 1904.00962; bert4keras.
    """

    def __init__(
        self,
        groups: ParameterGroups,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        spare: Sequence[str] = ("bias", "norm"),
    ) -> None:
        super().__init__(groups, learning_rate, betas=betas, epsilon=epsilon, weight_decay=weight_decay)
        self._spare = frozenset(spare)
        self._scratch = torch.empty(0)

    def update(self, portion: Portion, group: dict[str, Any]) -> None:
        """See the class."""
        columns = (portion.weights, portion.gradients, portion.slot("first"), portion.slot("second"))
        if group.get("kind") in self._spare:
            self.move(columns, group["lr"], group["weight_decay"], step=portion.step, corrected=True)
            return
        for tensors in zip(*columns, strict=True):
            self._adapt(portion.step, *tensors, group)

    def _adapt(
        self,
        step: int,
        weight: Tensor,
        gradient: Tensor,
        first: Tensor,
        second: Tensor,
        group: dict[str, Any],
    ) -> None:
        direction = self._scratch_like(weight)
        sizes: list[Tensor] = []
        distances: list[Tensor] = []
        columns = ([weight], [gradient], [first], [second], [direction])
        for w, g, m, v, d in pieces(*columns, elements=_PIECE):
            torch.mul(w[0], -group["lr"] * group["weight_decay"], out=d[0])
            self.move((d, g, m, v), group["lr"], 0.0, step=step, corrected=True)
            sizes.append(torch.linalg.vector_norm(w[0]))
            distances.append(torch.linalg.vector_norm(d[0]))
        size, distance = torch.stack(sizes).norm(), torch.stack(distances).norm()
        ratio = torch.where((size > 0) & (distance > 0), size * group["lr"] / distance, 1.0)
        weight.addcmul_(direction, ratio)

    def _scratch_like(self, weight: Tensor) -> Tensor:
        kept = self._scratch
        if (kept.device, kept.dtype) != (weight.device, weight.dtype) or len(kept) < weight.numel():
            self._scratch = kept = torch.empty(weight.numel(), dtype=weight.dtype, device=weight.device)
        return kept[: weight.numel()].view(weight.shape)


def lamb(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """`Lamb` by betas and epsilon of the options. 训练器使用的 LAMB。"""
    return Lamb(groups, options.learning_rate, betas=options.betas, epsilon=options.epsilon)
