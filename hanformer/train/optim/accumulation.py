"""Accumulation of gradients inside the moments: the mean of k micro-batches without a buffer for their sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hanformer.train.optim.base import (
    MultiTensor,
    ParameterGroups,
    Portion,
    check_count,
    check_share,
    pieces,
)


class AccumulatingMomentum(MultiTensor):
    """m ← [β at the first of k calls, else 1] m + (1 − β)/k g; at the k-th call w ← (1 − ηλ)w − η m.

    把梯度累积藏进动量：无需额外缓冲区。

    Exactly the update by the mean of the k gradients: m is what one call with that mean would make of it. Weights,
    decay and schedules move at every k-th call alone; schedules count calls. The micro-batches weigh alike, whatever
    their counts, and clipping sees each by itself: where that matters let `Trainer` sum them (`accumulate`), which
    needs no optimizer's help and, in torch, no more memory than the gradients that stand there anyway. Every weight
    must have a gradient in all k calls. Source: kexue.fm/archives/8634. Raises UserError for numbers out of range.
    """

    def __init__(
        self,
        groups: ParameterGroups,
        learning_rate: float = 1e-2,
        *,
        beta: float = 0.9,
        accumulate: int = 1,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, learning_rate, weight_decay)
        check_share("beta", beta)
        check_count("accumulate", accumulate)
        self._beta, self._accumulate = beta, accumulate

    def first_state(self, weight: Tensor) -> dict[str, Tensor]:
        """The momentum, zero."""
        return {"first": torch.zeros_like(weight)}

    def update(self, portion: Portion, group: dict[str, Any]) -> None:
        """See the class."""
        columns = (portion.weights, portion.gradients, portion.slot("first"))
        for weights, gradients, momenta in pieces(*columns):
            absorb(momenta, gradients, self._beta, portion.step, self._accumulate)
            if portion.step % self._accumulate == 0:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, momenta, alpha=-group["lr"])


class AccumulatingAdamW(MultiTensor):
    """AdamW whose moments take in micro-batches: m as in `AccumulatingMomentum`, v likewise with g².

    把梯度累积藏进一阶、二阶动量的 AdamW。

    m is exact; v holds the mean of the k squares, where AdamW on the mean gradient holds the square of the mean,
    which is smaller: steps are shorter the more micro-batches disagree. Bias correction counts updates. In all else
    like `AccumulatingMomentum`; with `accumulate` 1 it is AdamW.
    Source: kexue.fm/archives/8634. Raises UserError for numbers out of range.
    """

    def __init__(
        self,
        groups: ParameterGroups,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        accumulate: int = 1,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, learning_rate, weight_decay)
        check_share("betas", betas[0])
        check_share("betas", betas[1])
        check_count("accumulate", accumulate)
        self._betas, self._epsilon, self._accumulate = betas, epsilon, accumulate

    def first_state(self, weight: Tensor) -> dict[str, Tensor]:
        """Both moments, zero."""
        return {"first": torch.zeros_like(weight), "second": torch.zeros_like(weight)}

    def update(self, portion: Portion, group: dict[str, Any]) -> None:
        """See the class."""
        columns = (portion.weights, portion.gradients, portion.slot("first"), portion.slot("second"))
        for weights, gradients, first, second in pieces(*columns):
            absorb(first, gradients, self._betas[0], portion.step, self._accumulate)
            squares = list(torch._foreach_mul(gradients, gradients))
            absorb(second, squares, self._betas[1], portion.step, self._accumulate)
            if portion.step % self._accumulate == 0:
                self._move(weights, first, second, portion.step // self._accumulate, group)

    def _move(
        self,
        weights: list[Tensor],
        first: list[Tensor],
        second: list[Tensor],
        update: int,
        group: dict[str, Any],
    ) -> None:
        scales = [1 - beta**update for beta in self._betas]
        roots = list(torch._foreach_sqrt(second))
        torch._foreach_div_(roots, scales[1] ** 0.5)
        torch._foreach_add_(roots, self._epsilon)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(weights, first, roots, value=-group["lr"] / scales[0])


def absorb(moments: Sequence[Tensor], values: Sequence[Tensor], beta: float, call: int, count: int) -> None:
    """m ← [β if `call`, from 1, is the first of a group of `count`, else 1] m + (1 − β) / count · value, in place.

    动量吸收一个微批次的梯度。
    """
    if (call - 1) % count == 0:
        torch._foreach_mul_(list(moments), beta)
    torch._foreach_add_(list(moments), list(values), alpha=(1 - beta) / count)
