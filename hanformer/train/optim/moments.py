"""Adam without bias correction, and AdaX: both are torch's fused kernel with a coefficient of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.train.optim.base import MultiTensor, ParameterGroups, Portion, check_share
from hanformer.train.options import TrainOptions

#: AdaX's second coefficient b.
GROWTH = 1e-4
#: The largest number below 1. With 1 itself the kernel would divide by 1 - 1^t = 0.
BELOW_ONE = math.nextafter(1.0, 0.0)
#: e^709 is the last that a double holds; b / e^700 is 0 beside 1 long before.
LARGEST_EXPONENT = 700.0


def adax_coefficient(step: int, growth: float = GROWTH) -> float:
    """B_t = 1 - b / ((1 + b)^t - 1) of update t = `step`, from 1: 0 at first, then rising towards 1.

    AdaX 平均形式的二阶系数：起于 0，趋于 1。

    It never reaches 1 and never overflows, however many the updates. Source: kexue.fm/archives/7387.
    """
    exponent = min(step * math.log1p(growth), LARGEST_EXPONENT)
    return min(max(1.0 - growth / math.expm1(exponent), 0.0), BELOW_ONE)


class FusedAdam(MultiTensor):
    """What rules on torch's fused kernel share: two moments, their coefficients, and the call.

    基于 torch 融合 Adam 内核的更新规则的共同部分。

    Weight decay λ is decoupled, w ← (1 - ηλ)w before the step, or added to the gradient as λw where `decoupled` is
    False. Raises UserError for numbers out of range.
    """

    def __init__(
        self,
        groups: ParameterGroups,
        learning_rate: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = True,
    ) -> None:
        super().__init__(groups, learning_rate, weight_decay)
        check_share("betas", betas[0])
        check_share("betas", betas[1])
        self._betas, self._epsilon = betas, epsilon
        self._kernel: Callable[..., None] = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def first_state(self, weight: Tensor) -> dict[str, Tensor]:
        """Both moments, zero."""
        return {"first": torch.zeros_like(weight), "second": torch.zeros_like(weight)}

    def second_coefficient(self, step: int) -> float:
        """B_t, what is kept of the second moment in update t. 二阶动量的系数。"""
        return self._betas[1]

    def move(
        self, columns: Sequence[list[Tensor]], rate: float, decay: float, *, step: int, corrected: bool
    ) -> None:
        """One call on weights, gradients and both moments. 调用一次内核。

        Told that infinitely many updates are past, the kernel corrects no bias.
        """
        weights, gradients, first, second = columns
        past = torch.full((), float(step) if corrected else math.inf, device=weights[0].device)
        self._kernel(
            weights,
            gradients,
            first,
            second,
            [],
            [past] * len(weights),
            amsgrad=False,
            lr=rate,
            beta1=self._betas[0],
            beta2=self.second_coefficient(step),
            weight_decay=decay,
            eps=self._epsilon,
            maximize=False,
        )


class UncorrectedAdam(FusedAdam):
    """m ← β₁m + (1 - β₁)g; v ← B_t v + (1 - B_t)g²; w ← w - η m / (√v + ε), without bias correction; B_t = β₂.

    不做偏差修正的 Adam。

    Decay and errors are those of `FusedAdam`. Source: Kingma and Ba, arXiv 1412.6980; the uncorrected form is that of
    BERT's own training.
    """

    def update(self, portion: Portion, group: dict[str, Any]) -> None:
        """See the class."""
        columns = (portion.weights, portion.gradients, portion.slot("first"), portion.slot("second"))
        self.move(columns, group["lr"], group["weight_decay"], step=portion.step, corrected=False)


class AdaX(UncorrectedAdam):
    """AdaX: the second moment is an average in which the past weighs ever more, B_t = 1 - b / ((1 + b)^t - 1).

    AdaX：二阶动量对过去的记忆越来越长。

    m ← β₁m + (1 - β₁)g; v ← B_t v + (1 - B_t)g²; w ← w - η m / (√v + ε), m not corrected: the first update is
    η(1 - β₁), a tenth of Adam's. Equal to the published form, whose v grows like (1 + b)^t and overflows float32
    after 887,273 updates at b = 1e-4; here v is the published one over (1 + b)^t - 1, and ε is added to its root.
    Decay as in `UncorrectedAdam`: added to the gradient for AdaX (`decoupled` False), decoupled for AdaXW.
    A weight whose first gradient comes at a late update s moves by η(1 - β₁)√(((1 + b)^s - 1) / b), 13 η at
    s = 10,000: rare tokens are better left to another rule, or to clipping.
    Raises UserError for numbers out of range. Source: Li et al., arXiv 2004.09740; kexue.fm/archives/7387.
    """

    def __init__(
        self,
        groups: ParameterGroups,
        learning_rate: float = 1e-3,
        *,
        beta: float = 0.9,
        growth: float = GROWTH,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        if not growth > 0:
            raise UserError(f"growth: expected a number above 0, such as {GROWTH}, got {growth}")
        super().__init__(
            groups,
            learning_rate,
            betas=(beta, 0.0),
            epsilon=epsilon,
            weight_decay=weight_decay,
            decoupled=decoupled,
        )
        self._growth = growth

    def second_coefficient(self, step: int) -> float:
        """`adax_coefficient`."""
        return adax_coefficient(step, self._growth)


def adamw_uncorrected(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """`UncorrectedAdam` with decoupled decay, by betas and epsilon of the options. 不做偏差修正的 AdamW。"""
    return UncorrectedAdam(groups, options.learning_rate, betas=options.betas, epsilon=options.epsilon)


def adax(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """`AdaX`, the decay added to the gradient; β₁ is the first of betas, b is 1e-4. 训练器使用的 AdaX。"""
    return AdaX(groups, options.learning_rate, beta=options.betas[0], epsilon=options.epsilon)


def adaxw(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """`AdaX` with decoupled decay; β₁ is the first of betas, b is 1e-4. 解耦权重衰减的 AdaX。"""
    return AdaX(groups, options.learning_rate, beta=options.betas[0], epsilon=options.epsilon, decoupled=True)
