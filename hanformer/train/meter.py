"""Losses of the last few updates, kept on the device until they are looked at."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.train.bad_batch import Moment
from hanformer.train.step import Sums


class NonFiniteLoss(UserError):
    """The loss or its gradient became infinite or not a number; the weights of the last checkpoint are sound.

    损失或梯度出现 NaN/Inf；上一个检查点仍然完好。

    moment: the update that did it.
    """

    def __init__(self, moment: Moment, problem: str) -> None:
        advice = "start again with a lower learning rate, a longer warm-up, clipping, or in fp32"
        super().__init__(f"{moment}: {problem}; checkpoints before it are whole; {advice}")
        self.moment = moment


class Meter:
    """Collects updates without waiting for the device; looking (`check`, `read`) waits once for all of them.

    收集各次更新的损失；只在读取时与设备同步一次。

    gradients_too: whether an infinite gradient norm is an error (with fp16 loss scaling it is not).
    """

    def __init__(self, gradients_too: bool) -> None:
        self._gradients_too = gradients_too
        self._waiting: list[tuple[Moment, Sums, Tensor]] = []
        self._clear()

    def add(self, moment: Moment, sums: Sums, norm: Tensor, tokens: int | None) -> None:
        """Takes in one update; tokens None: its count."""
        self._waiting.append((moment, sums, norm))
        self._tokens += tokens or 0
        self._count_is_tokens = tokens is None

    def check(self) -> None:
        """Raises NonFiniteLoss for the first update that went wrong."""
        if not self._waiting:
            return
        rows = [torch.stack([sums.total, sums.count, norm]).double() for _, sums, norm in self._waiting]
        for (moment, _, _), (total, count, norm) in zip(
            self._waiting, torch.stack(rows).tolist(), strict=True
        ):
            self._require_finite(moment, "loss", total)
            if self._gradients_too:
                self._require_finite(moment, "gradient", norm)
            self._total += total
            self._count += count
            self._norm += norm
            self._updates += 1
        self._waiting.clear()

    def accepts(self, sums: Sums, norm: Tensor) -> bool:
        """Whether an update is finite; waits for the device."""
        values = [sums.total, norm] if self._gradients_too else [sums.total]
        return all(bool(value.isfinite()) for value in values)

    def read(self) -> tuple[float, float, float] | None:
        """(mean loss, mean gradient norm, tokens) since the last reading; None where no update came."""
        self.check()
        if not self._updates:
            return None
        tokens = self._count if self._count_is_tokens else float(self._tokens)
        reading = (self._total / max(self._count, 1e-12), self._norm / self._updates, tokens)
        self._clear()
        return reading

    def _clear(self) -> None:
        self._total = self._count = self._norm = 0.0
        self._updates = self._tokens = 0
        self._count_is_tokens = True

    @staticmethod
    def _require_finite(moment: Moment, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise NonFiniteLoss(moment, f"the {what} is {value}")
