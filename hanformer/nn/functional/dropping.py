"""Dropout that does not wait for random numbers on a CPU: one 64-bit draw decides eight entries.

CPU 上的快速随机失活：一个 64 位随机数供八个元素使用。
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_STEPS = 256


def drop(x: Tensor, rate: float) -> Tensor:
    """Each entry zero with the given rate, else divided by the share that is kept.

    随机失活。

    On a CPU the rate is rounded to n/256 (0.1 becomes 0.1016), and the scale is exact for the rounded rate; elsewhere
    it is torch's dropout. Shapes: any to the same.
    """
    if x.device.type != "cpu":
        return functional.dropout(x, rate)
    return x * factors(kept_places(x.shape, rate), rate, x.dtype)


def kept_places(shape: Sequence[int], rate: float) -> Tensor:
    """Bool of a shape, on the CPU: what is kept. 抽取保留的位置。"""
    count = torch.Size(shape).numel()
    draws = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.uint8)[:count].view(shape) >= _dropped(rate)


def factors(kept: Tensor, rate: float, dtype: torch.dtype) -> Tensor:
    """What entries are multiplied by: zero, or the inverse of the share that is kept. 各元素的系数。"""
    return kept.to(dtype).mul_(_STEPS / (_STEPS - _dropped(rate)))


def _dropped(rate: float) -> int:
    return min(round(rate * _STEPS), _STEPS - 1)
