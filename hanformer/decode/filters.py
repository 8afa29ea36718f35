"""Filters: pure functions from logits [..., V] to logits [..., V]; what they drop becomes -inf."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hanformer.errors import UserError


def temperature(logits: Tensor, value: float) -> Tensor:
    """Divides the logits by the temperature: p_i ** (1 / T), renormalised.

    温度：logits 除以 T。

    Raises UserError unless value > 0 and finite.
    """
    if not 0 < value < math.inf:
        raise UserError(
            f"expected a finite temperature above 0, got {value}; for temperature 0 decode greedily"
        )
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


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keeps the tokens at least p times as probable as the most probable one.

    保留概率不低于最大概率 p 倍的词元。

        keep i where p_i >= p * max_j p_j

    Raises UserError unless 0 <= p <= 1. Source: Nguyen et al. 2024, arXiv 2407.01082.
    """
    if not 0 <= p <= 1:
        raise UserError(f"expected min-p in [0, 1], got {p}")
    probabilities = logits.softmax(-1)
    return _drop(logits, probabilities < p * probabilities.amax(-1, keepdim=True))


def typical(logits: Tensor, mass: float) -> Tensor:
    """Keeps the tokens whose surprise is nearest to the entropy, until their probability reaches the mass.

    典型采样：按惊奇度与熵之差从小到大保留，直到概率之和达到 mass。

        order by | -log p_i - H |,  H = -sum_i p_i log p_i

    The token that crosses the threshold is kept, and all that are as near as it is.
    Raises UserError unless 0 < mass <= 1. Source: Meister et al. 2022, arXiv 2202.00666.
    """
    if not 0 < mass <= 1:
        raise UserError(f"expected a typical mass in (0, 1], got {mass}")
    if mass == 1:
        return logits
    log_p = logits.log_softmax(-1)
    entropy = -(log_p * log_p.exp()).nansum(-1, keepdim=True)
    distance = (-log_p - entropy).abs()
    ascending, order = distance.sort(dim=-1)
    reached = logits.gather(-1, order).softmax(-1).cumsum(-1)
    last = (reached < mass).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    farthest = ascending.gather(-1, last)
    return logits.masked_fill(distance > farthest, -math.inf)


def epsilon(logits: Tensor, value: float) -> Tensor:
    """Drops the tokens less probable than epsilon; the most probable ones always stay.

    丢弃概率低于 epsilon 的词元（最大者必留）。

    Raises UserError unless 0 <= value < 1. Source: Hewitt et al. 2022, arXiv 2210.15191.
    """
    _check_cutoff(value)
    return _drop(logits, logits.softmax(-1) < value)


def eta(logits: Tensor, value: float) -> Tensor:
    """Drops the tokens less probable than a threshold that falls where the entropy rises.

    熵自适应截断：阈值随熵增大而降低。

        drop i where p_i < min(eps, sqrt(eps) * exp(-H))

    Raises UserError unless 0 <= value < 1. Source: Hewitt et al. 2022, arXiv 2210.15191.
    """
    _check_cutoff(value)
    log_p = logits.log_softmax(-1)
    probabilities = log_p.exp()
    entropy = -(log_p * probabilities).nansum(-1, keepdim=True)
    threshold = (math.sqrt(value) * (-entropy).exp()).clamp(max=value)
    return _drop(logits, probabilities < threshold)


def _check_cutoff(value: float) -> None:
    if not 0 <= value < 1:
        raise UserError(f"expected a cutoff in [0, 1), got {value}")


def _drop(logits: Tensor, dropped: Tensor) -> Tensor:
    """-inf where dropped, except at the greatest logits."""
    return logits.masked_fill(dropped & (logits < logits.amax(-1, keepdim=True)), -math.inf)
