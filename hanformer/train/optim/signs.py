"""Lion and Tiger: updates that are the sign of a momentum, with one state tensor a weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hanformer.train.optim.base import (
    MultiTensor,
    ParameterGroups,
    Portion,
    check_count,
    check_share,
    own_betas,
    pieces,
)
from hanformer.train.options import TrainOptions

LION_BETAS = (0.95, 0.98)
TIGER_BETA = 0.965


class Lion(MultiTensor):
    """w ← w - η(sign(β₁m + (1 - β₁)g) + λw), then m ← β₂m + (1 - β₂)g.

    Lion：更新量为动量的符号。

    Wants a rate about 10 times smaller and a decay about 10 times larger than AdamW, and batches of 64 or more.
    Source: Chen et al., arXiv 2302.06675; kexue.fm/archives/9473. Raises UserError for betas out of range.
    """

    def __init__(
        self,
        groups: ParameterGroups,
        learning_rate: float = 3e-4,
        *,
        betas: tuple[float, float] = LION_BETAS,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, learning_rate, weight_decay)
        check_share("betas", betas[0])
        check_share("betas", betas[1])
        self._betas = betas

    def first_state(self, weight: Tensor) -> dict[str, Tensor]:
        """The momentum, zero."""
        return {"first": torch.zeros_like(weight)}

    def update(self, portion: Portion, group: dict[str, Any]) -> None:
        """See the class."""
        columns = (portion.weights, portion.gradients, portion.slot("first"))
        for weights, gradients, momenta in pieces(*columns):
            mixed = list(torch._foreach_lerp(momenta, gradients, 1 - self._betas[0]))
            _step_by_sign(weights, mixed, group)
            torch._foreach_lerp_(momenta, gradients, 1 - self._betas[1])


class Tiger(MultiTensor):
    """m ← βm + (1 - β)g; w ← w - η(sign(m) + λw): Lion with one β, which needs no buffer to accumulate.

    Tiger：只有一个 β 的 Lion，梯度累积不需额外显存。

    accumulate: with k, each call of `step` takes the gradient of one micro-batch into m, m ← [β if it is the
    first of k else 1]m + (1 - β)/k g, and every k-th moves the weights: exactly the update by the mean of the k
    gradients. A schedule then counts calls; trained by `Trainer`, which sums micro-batches itself, leave it at 1.
    Differs from the published Tiger, which scales the rate by the root mean square of each matrix and 0.5 for
    vectors: `layerwise+tiger` does nearly that for matrices. Source: kexue.fm/archives/9512 and 8634.
    Raises UserError for numbers out of range.
    """

    def __init__(
        self,
        groups: ParameterGroups,
        learning_rate: float = 1e-3,
        *,
        beta: float = TIGER_BETA,
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
        kept = self._beta if (portion.step - 1) % self._accumulate == 0 else 1.0
        moves = portion.step % self._accumulate == 0
        columns = (portion.weights, portion.gradients, portion.slot("first"))
        for weights, gradients, momenta in pieces(*columns):
            torch._foreach_mul_(momenta, kept)
            torch._foreach_add_(momenta, gradients, alpha=(1 - self._beta) / self._accumulate)
            if moves:
                _step_by_sign(weights, [momentum.clone() for momentum in momenta], group)


def _step_by_sign(weights: list[Tensor], directions: list[Tensor], group: dict[str, Any]) -> None:
    """Writes over the directions."""
    torch._foreach_sign_(directions)
    torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
    torch._foreach_add_(weights, directions, alpha=-group["lr"])


def lion(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """`Lion`; betas left at AdamW's default become (0.95, 0.98). 训练器使用的 Lion。"""
    return Lion(groups, options.learning_rate, betas=own_betas(options, LION_BETAS))


def tiger(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """`Tiger`; β is the first of betas, 0.965 where those are left at AdamW's default. 训练器使用的 Tiger。"""
    return Tiger(groups, options.learning_rate, beta=own_betas(options, (TIGER_BETA, 0.0))[0])
