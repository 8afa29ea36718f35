"""Softmax attention whose weights are kept for the way back: training on a CPU in bfloat16, or with dropout.

CPU 上用 bfloat16 或带失活训练时的注意力：保存权重供反向使用。

torch's flash kernel computes the weights again on the way back, tile by tile; in bfloat16 that takes much longer than
these products do, the more so the shorter the rows are (docs/benchmarks.md). Dropout it does not know: torch's other
kernel keeps the weights too, and waits for random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hanformer.nn.functional.dropping import factors, kept_places
from hanformer.nn.functional.plans import Plan
from hanformer.nn.functional.powers import LOG2_E

#: Queries, keys and values [B, H, length, D] of a plan.
Rectangle = tuple[Tensor, Tensor, Tensor]

#: Keys of a rectangle up to which weights are kept: beyond, they take more memory than the rest of a layer.
LONGEST = 512
#: Logits that are computed again at a time: 16 MiB in float32.
PAIRS = 2**22


def keeps_weights(part: Rectangle, dropout: float) -> bool:
    """Whether `attend_written` is the way for a rectangle; `differentiable_twice` turns it off, as it does flash.

    是否应保存注意力权重。
    """
    query, key, value = part
    learning = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    once = torch.backends.cuda.flash_sdp_enabled()
    half = query.dtype == torch.bfloat16 and key.shape[-2] <= LONGEST
    return learning and once and query.device.type == "cpu" and (half or dropout > 0)


def attend_written(
    part: Rectangle, plan: Plan, bias: Tensor | None, scale: float, dropout: float = 0.0
) -> Tensor:
    """One rectangle of `attend`: [B, H, Q, D], [B, H, K, D] and [B, H, K, D'] to [B, H, Q, D'].

    一个矩形块上的注意力。

    Logits and softmax are at least in float32, the products with values and the way back in the inputs' dtype, as in
    flash kernels. `bias` [B or 1, H, Q, K] or None, and `dropout`, as in `attend`. It can be differentiated once.
    """
    mixed: Tensor = _Written.apply(*part, bias, plan, scale, dropout)
    return mixed


def hidden(plan: Plan, device: torch.device) -> Tensor | None:
    """Bool, broadcastable to [B, H, Q, K]: what a plan hides; None where nothing is. 计划隐藏的位置。"""
    if plan.causal:
        places = torch.arange(plan.key.length, device=device)
        return places[None, :] > places[:, None]
    return None if plan.mask is None else ~plan.mask


def slopes_again(plan: Plan, part: Rectangle, scale: float, joint: Rectangle) -> Rectangle:
    """Gradients of a rectangle's queries, keys and values, the weights computed again from their log-sum-exp.

    由 log-sum-exp 重新计算权重，得到一个矩形块的梯度。

    `joint` is the slope, the result and the log-sum-exp [B, H, Q, 1] of all pieces that the rectangle is part of; +inf
    where a query sees nothing. Rows are taken a few at a time, so that logits take little memory.
    """
    query, key, _ = part
    pairs = query.shape[1] * query.shape[2] * key.shape[2]
    rows = max(1, PAIRS // max(1, pairs))
    unseen = hidden(plan, query.device)
    found = []
    for start in range(0, len(query), rows):
        some = slice(start, start + rows)
        own_unseen = unseen[some] if unseen is not None and unseen.ndim == 4 and len(unseen) > 1 else unseen
        own = [tensor[some] for tensor in (*part, *joint)]
        found.append(_slopes_again(own, own_unseen, scale))
    of_query, of_key, of_value = (torch.cat(slopes) for slopes in zip(*found, strict=True))
    return of_query, of_key, of_value


def _slopes_again(own: Sequence[Tensor], unseen: Tensor | None, scale: float) -> tuple[Tensor, ...]:
    query, key, value, slope, mixed, log = own
    wide = torch.promote_types(query.dtype, torch.float32)
    weights = ((query.to(wide) * (scale * LOG2_E)) @ key.to(wide).mT).sub_(log.to(wide) * LOG2_E).exp2_()
    if unseen is not None:
        weights.masked_fill_(unseen, 0.0)
    of_value = weights.to(slope.dtype).mT @ slope
    along = (slope.to(wide) * mixed.to(wide)).sum(-1, keepdim=True)
    of_logits = weights.mul_((slope @ value.mT).to(wide).sub_(along)).to(query.dtype)
    return (of_logits @ key).mul_(scale), (of_logits.mT @ query).mul_(scale), of_value


class _Written(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        plan: Plan,
        scale: float,
        dropout: float,
    ) -> Tensor:
        """Weights by logits that are not rounded; a query that sees nothing gets zeros."""
        with torch.autocast(query.device.type, enabled=False):
            wide = torch.promote_types(query.dtype, torch.float32)
            logits = (query.to(wide) * scale) @ key.to(wide).mT
            if bias is not None:
                logits += bias
            elif (unseen := hidden(plan, query.device)) is not None:
                logits.masked_fill_(unseen, float("-inf"))
            weights = torch.softmax(logits, -1)
            if plan.blind is not None:
                weights.masked_fill_(plan.blind, 0.0)
            weights = weights.to(query.dtype)
            kept = kept_places(weights.shape, dropout) if dropout else None
            context.scale, context.dropout = scale, dropout
            context.save_for_backward(query, key, value, bias, weights, kept)
            return _dropped(weights, kept, dropout) @ value

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of queries, keys, values and bias, in their shapes, from the slope [B, H, Q, D']."""
        query, key, value, bias, weights, kept = context.saved_tensors
        of_weights = _dropped(slope @ value.mT, kept, context.dropout)
        of_logits = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_bias = of_logits.to(bias.dtype).sum_to_size(bias.shape) if context.needs_input_grad[3] else None
        return (
            (of_logits @ key).mul_(context.scale),
            (of_logits.mT @ query).mul_(context.scale),
            _dropped(weights, kept, context.dropout).mT @ slope,
            of_bias,
            None,
            None,
            None,
        )


def _dropped(x: Tensor, kept: Tensor | None, rate: float) -> Tensor:
    return x if kept is None else factors(kept, rate, x.dtype).mul_(x)
