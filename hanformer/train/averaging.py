"""Averages of the weights along training: exponential, or over the last few snapshots.

Parameters that learn are averaged; buffers are those of the model. Averages of half-precision weights are
fp32.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from hanformer.errors import UserError

AVERAGES = ("none", "ema", "last")


class WeightAverage(Protocol):
    """An average that follows the weights of a model: the trainer's view of it. 权重平均的统一接口。"""

    def follow(self, update: int) -> None:
        """Takes in the weights as they are after `update` updates (1 after the first)."""

    def values(self) -> list[Tensor]:
        """The averaged weights in the order of the parameters; empty where there is no average yet."""

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on later."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave."""


class NoAverage:
    """The weights themselves. 不做平均。"""

    def follow(self, update: int) -> None:
        pass

    def values(self) -> list[Tensor]:
        return []

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        pass


def moving_weight(update: int, decay: float) -> float:
    """The weight of the newest value in a bias-corrected moving average: (1 - d) / (1 - d^t), 1 at t = 1.

    带偏差修正的滑动平均中最新值的权重。
    """
    return (1.0 - decay) / -math.expm1(update * math.log(decay)) if decay > 0.0 else 1.0


class ExponentialAverage:
    """e_t = (1 - w_t) e_{t-1} + w_t theta_t, with w_t = (1 - d) / (1 - d^t).

    权重的指数滑动平均，等价于零初始化并做偏差修正。

    Equal to the average started from zero and divided by 1 - d^t; one multi-tensor call an update.
    Source: kexue.fm/archives/7094 (bert4keras starts from zero and divides by 1 - d^t when it applies the
    average).
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise UserError(f"average_decay: expected a number from 0 to below 1, got {decay}")
        self._parameters = list(parameters)
        self._decay = decay
        self._average: list[Tensor] = []

    @torch.no_grad()
    def follow(self, update: int) -> None:
        if not self._average:
            self._average = _wide_copies(self._parameters)
            return
        newest = [p.detach().to(a.dtype) for p, a in zip(self._parameters, self._average, strict=True)]
        torch._foreach_lerp_(self._average, newest, moving_weight(update, self._decay))

    def values(self) -> list[Tensor]:
        return self._average

    def state(self) -> dict[str, Tensor]:
        return {str(index): average for index, average in enumerate(self._average)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        if state:
            self._average = [state[str(i)].to(p.device, copy=True) for i, p in enumerate(self._parameters)]


class LastAverage:
    """The mean of the last `count` snapshots, one taken every `every` updates and kept in CPU memory.

    最近若干个快照的平均。

    Source: Vaswani et al., arXiv 1706.03762 (averaging the last checkpoints).
    """

    def __init__(self, parameters: Sequence[Tensor], count: int = 5, every: int = 100) -> None:
        if count < 1 or every < 1:
            raise UserError(f"average_count and average_every: expected at least 1, got {count} and {every}")
        self._parameters = list(parameters)
        self._every = every
        self._snapshots: deque[list[Tensor]] = deque(maxlen=count)

    def follow(self, update: int) -> None:
        if update % self._every == 0:
            self._snapshots.append([copy.cpu() for copy in _wide_copies(self._parameters)])

    @torch.no_grad()
    def values(self) -> list[Tensor]:
        return [torch.stack(copies).mean(0) for copies in zip(*self._snapshots, strict=True)]

    def state(self) -> dict[str, Tensor]:
        return {
            f"{place}.{index}": tensor
            for place, snapshot in enumerate(self._snapshots)
            for index, tensor in enumerate(snapshot)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._snapshots.clear()
        size = len(self._parameters)
        for place in range(len(state) // max(size, 1)):
            self._snapshots.append([state[f"{place}.{index}"] for index in range(size)])


def make_average(
    word: str, parameters: Sequence[Tensor], *, decay: float = 0.999, count: int = 5, every: int = 100
) -> WeightAverage:
    """The average of that name: none, ema or last.

    按名称创建权重平均。

    Raises UserError for another word.
    """
    if word == "ema":
        return ExponentialAverage(parameters, decay)
    if word == "last":
        return LastAverage(parameters, count, every)
    if word == "none":
        return NoAverage()
    raise UserError(f"average: expected one of {', '.join(AVERAGES)}, got {word!r}")


@contextmanager
def averaged(parameters: Sequence[nn.Parameter], average: WeightAverage) -> Iterator[None]:
    """The model with its averaged weights inside the block, and with its own again, bit for bit, after it.

    在上下文中换上平均权重，离开时逐位恢复。
    """
    values = average.values()
    replaced = list(parameters) if values else []
    kept = [parameter.detach().clone() for parameter in replaced]
    _assign(replaced, values)
    try:
        yield
    finally:
        _assign(replaced, kept)


@torch.no_grad()
def _assign(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _wide_copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.detach().to(torch.promote_types(p.dtype, torch.float32), copy=True) for p in parameters]
