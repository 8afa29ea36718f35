"""Filters: pure functions from logits [..., V] to logits [..., V]; what they drop becomes -inf."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hanformer.errors import UserError


def temperature(logits: Tensor, value: float) -> Tensor:
    """Divides the logits by the temperature: p_i ** (1 / T), renormalised.

    温度：logits 除以 T。

    Raises UserError unless value > 0.
    """
    if not value > 0:
        raise UserError(f"expected a temperature above 0, got {value}; for temperature 0 decode greedily")
    return logits / value


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keeps the k greatest logits, and all that equal the k-th.

    保留最大的 k 个（与第 k 个相等者一并保留）。

    Raises UserError unless k >= 1. Source: Fan et al. 2018, arXiv 1805.04833.
    """
    if k < 1:
        raise UserError(f"expected top-k of at least 1, got {k}")
    threshold = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < threshold, -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keeps the smallest set of most probable tokens whose probability reaches p (nucleus sampling).

    核采样：保留累积概率达到 p 的最小集合，跨过阈值者在内。

    The token that crosses the threshold is kept. As in transformers the tail is summed from the least
    probable token upwards and dropped while its sum is <= 1 - p; the most probable token always stays.
    Raises UserError unless 0 < p <= 1. Source: Holtzman et al. 2019, arXiv 1904.09751.
    """
    if not 0 < p <= 1:
        raise UserError(f"expected top-p in (0, 1], got {p}")
    if p == 1:
        return logits
    ascending, order = logits.sort(dim=-1)
    dropped = ascending.softmax(-1).cumsum(-1) <= 1 - p
    dropped[..., -1] = False
    return logits.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -math.inf)
