"""Dropout as a layer."""

from __future__ import annotations

from torch import Tensor, nn

from hanformer.nn.functional.dropping import drop


class Dropout(nn.Module):
    """`drop` in training; nothing happens outside it. 训练时的随机失活层。"""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, partly zero in training."""
        return drop(x, self.rate) if self.training and self.rate else x

    def extra_repr(self) -> str:
        """Shown by print(model)."""
        return f"rate={self.rate}"
