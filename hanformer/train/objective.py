"""What training minimises: a function from a model and a batch to a sum and the number that divides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor, nn

Batch = TypeVar("Batch")


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss that is not divided yet: `total` is a sum over tokens (or rows), `count` says over how many.

    未平均的损失：total 为求和，count 为计数，由训练器统一相除。

    total: scalar tensor in a graph; count: number or scalar tensor, its unit chosen by the objective;
    outputs: named tensors that a wrapper of the objective may want (logits, hidden states).
    The trainer follows the gradient of sum(total) / sum(count) over all micro-batches of an update, so that n
    small batches of unequal length weigh what one large batch would.
    Source: kexue.fm/archives/6794.
    """

    total: Tensor
    count: float | Tensor
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def mean(self) -> Tensor:
        """total / count.

        平均损失。
        """
        return self.total / self.count


# An objective knows its kind of batch; a trick takes an objective and gives an objective.
Objective = Callable[[nn.Module, Batch], Loss]
