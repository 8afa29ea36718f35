"""The rules as their definitions read: one weight after the other, nothing in place, no fused kernels.

Each takes a start, gradients, and gives the weights after each update; without a decay unless it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Trace = list[Tensor]


def adam(
    weight: Tensor,
    gradients: Sequence[Tensor],
    rate: float,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    decay: float = 0.0,
    corrected: bool = True,
) -> Trace:
    """AdamW, epsilon outside the root."""
    trace, first, second = [], torch.zeros_like(weight), torch.zeros_like(weight)
    for step, gradient in enumerate(gradients, 1):
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        scales = [1 - beta**step if corrected else 1.0 for beta in betas]
        update = (first / scales[0]) / ((second / scales[1]).sqrt() + epsilon)
        weight = weight - rate * update - rate * decay * weight
        trace.append(weight)
    return trace


def adax(
    weight: Tensor,
    gradients: Sequence[Tensor],
    rate: float,
    *,
    beta: float = 0.9,
    growth: float = 1e-4,
    epsilon: float = 1e-8,
    decay: float = 0.0,
    added: float = 0.0,
) -> Trace:
    """As published: v grows without bound and is divided by (1 + b)^t - 1 when it is used."""
    trace, first, raw = [], torch.zeros_like(weight), torch.zeros_like(weight)
    for step, gradient in enumerate(gradients, 1):
        gradient = gradient + added * weight
        first = beta * first + (1 - beta) * gradient
        raw = (1 + growth) * raw + growth * gradient**2
        second = raw / math.expm1(step * math.log1p(growth))
        weight = weight - rate * first / (second.sqrt() + epsilon) - rate * decay * weight
        trace.append(weight)
    return trace


def lion(
    weight: Tensor,
    gradients: Sequence[Tensor],
    rate: float,
    *,
    betas: tuple[float, float] = (0.95, 0.98),
    decay: float = 0.0,
) -> Trace:
    trace, first = [], torch.zeros_like(weight)
    for gradient in gradients:
        update = (betas[0] * first + (1 - betas[0]) * gradient).sign() + decay * weight
        weight = weight - rate * update
        first = betas[1] * first + (1 - betas[1]) * gradient
        trace.append(weight)
    return trace


def adafactor(
    weight: Tensor,
    gradients: Sequence[Tensor],
    rate: float,
    *,
    beta: float = 0.0,
    axes: tuple[int, int] | None = None,
    decay: float = 0.0,
    scaled: bool = True,
) -> Trace:
    """The second moment is built whole, from the means over each of the axes."""
    trace, momentum = [], torch.zeros_like(weight)
    squares: list[Tensor | float] = [0.0, 0.0, 0.0]
    for step, gradient in enumerate(gradients, 1):
        kept = 1 - step**-0.8
        square = gradient**2 + 1e-30
        means = [square] if axes is None else [square.mean(axis, keepdim=True) for axis in axes]
        squares = [kept * old + (1 - kept) * new for old, new in zip(squares, means, strict=False)]
        second = squares[0] if axes is None else squares[0] * squares[1] / squares[0].mean(axes[1], True)
        update = gradient / second.sqrt()
        update = update / max(1.0, float((update**2).mean() ** 0.5))
        momentum = beta * momentum + (1 - beta) * update
        scale = max(1e-3, float((weight**2).mean() ** 0.5)) if scaled else 1.0
        weight = weight - rate * scale * momentum - rate * decay * weight
        trace.append(weight)
    return trace


def adapted(start: Tensor, proposals: Trace, rate: float) -> Tensor:
    """The layer adaptation of a first update."""
    step = (proposals[0] - start) / rate
    return start + rate * step * start.norm() / step.norm()


def lookahead(
    weight: Tensor,
    gradients: Sequence[Tensor],
    rate: float,
    *,
    every: int = 5,
    share: float = 0.5,
    slow: Tensor | None = None,
    phase: int = 0,
) -> Trace:
    """Around Adam with epsilon 1e-6; bert4keras' defects are slow = 0 and phase = 1."""
    trace, first, second = [], torch.zeros_like(weight), torch.zeros_like(weight)
    slow = weight if slow is None else slow
    for step, gradient in enumerate(gradients, 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        weight = weight - rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-6)
        if step % every == phase:
            slow = slow + share * (weight - slow)
            weight = slow
        trace.append(weight)
    return trace
