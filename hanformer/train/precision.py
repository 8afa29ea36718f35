"""Number formats of a training step: fp32, bf16 by autocast over fp32 weights, fp16 with loss scaling."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from hanformer.runtime import choose_precision

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """How a step computes on a device; the weights and the optimiser's state stay fp32.

    训练步的数值格式；权重与优化器状态保持 fp32。

    word: auto, fp32, bf16 or fp16. fp16 multiplies the loss by a scale that grows until gradients overflow
    and skips those updates; the other words leave the loss as it is, through the same calls.
    Raises UserError for another word, and for fp16 without a GPU. Source: arXiv 1710.03740.
    """

    def __init__(self, word: str, device: torch.device) -> None:
        self.word = choose_precision(word, device)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.word == "fp16")

    def autocast(self) -> AbstractContextManager[None]:
        """A context in which matrix products run in the chosen format.

        在所选精度下计算的上下文。
        """
        dtype = _AUTOCAST[self.word]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    @property
    def may_overflow(self) -> bool:
        """Whether an infinite gradient is an event that the loss scale handles."""
        return self.scaler.is_enabled()
