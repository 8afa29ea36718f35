"""One softmax over keys that stand in several pieces: partial results, joined by their log-sum-exp.

多个互不重叠的块上的同一个 softmax：分块计算，用 log-sum-exp 合并。
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hanformer.nn.functional.dropping import drop
from hanformer.nn.functional.plans import Piece, Plan
from hanformer.nn.functional.written import Rectangle, hidden, slopes_again


def attend_jointly(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pieces: Sequence[Piece],
    *,
    scale: float,
    dropout: float,
    biases: Sequence[Tensor] | None,
) -> Tensor:
    """`attend` over several pieces: [N, H, D] thrice to [N, H, D'].

    在多个块上的注意力。

    On a CPU without dropout every rectangle runs in torch's flash kernel, forward and backward; otherwise logits are
    written out, one rectangle at a time, which takes the memory of the pairs.
    """
    query, key, value = one_dtype(query, key, value)
    plans = [plan for piece in pieces for plan in piece.plans]
    if biases is not None or dropout or not _has_flash(query, value):
        return _attend_in_steps(query * scale, key, value, pieces, dropout, biases)
    masks = [_additive(plan.mask, query.dtype) for plan in plans]
    rectangles = [part for piece in pieces for part in piece.rectangles(query, key, value)]
    mixed: Tensor = _Joint.apply(pieces, masks, scale, *[x for part in rectangles for x in part])
    return mixed


def one_dtype(*tensors: Tensor) -> list[Tensor]:
    """What attention kernels do under autocast: all tensors in its dtype. 自动混合精度下统一数值格式。"""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    return [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]


def _has_flash(query: Tensor, value: Tensor) -> bool:
    """Whether the kernel that returns log-sum-exp serves; `differentiable_twice` turns it off."""
    on = torch.backends.cuda.flash_sdp_enabled()
    return on and query.device.type == "cpu" and query.shape[-1] == value.shape[-1]


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Zero where visible, -inf where hidden."""
    if mask is None:
        return None
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


def _attend_in_steps(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pieces: Sequence[Piece],
    dropout: float,
    biases: Sequence[Tensor] | None,
) -> Tensor:
    partials, added = [], iter(biases or ())
    for piece in pieces:
        parts = []
        rectangles = piece.rectangles(query, key, value)
        for plan, (own_query, own_key, own_value) in zip(piece.plans, rectangles, strict=True):
            logits = scores(own_query, own_key)
            logits = hide(logits, plan) if biases is None else logits + next(added)
            partial = Partial.of(logits, dropout)
            parts.append(partial.summed(partial.weights @ own_value.to(partial.weights.dtype)))
        partials.append(Partial.collect(piece, parts))
    return join(partials).to(value.dtype)


def scores(query: Tensor, key: Tensor) -> Tensor:
    """q kᵀ [..., Q, K] of queries [..., Q, D] and keys [..., K, D]; of float16 in float32, for 65,504 is soon passed.

    查询与键的内积；float16 会溢出，故改用 float32。
    """
    query, key = without_overflow(query, key)
    return query @ key.transpose(-1, -2)


def without_overflow(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Both in a dtype that holds their products: float16 becomes float32. 换成不会溢出的精度。"""
    return (query.float(), key.float()) if query.dtype == torch.float16 else (query, key)


def hide(logits: Tensor, plan: Plan) -> Tensor:
    """Logits [B, H, Q, K] with -inf where the plan hides. 隐藏不可见的键。"""
    unseen = hidden(plan, logits.device)
    return logits if unseen is None else logits.masked_fill(unseen, float("-inf"))


@dataclass(frozen=True, eq=False)
class Partial:
    """A softmax that is not yet divided: Σ_j exp(logit_j − peak) v_j, its `mass` Σ_j exp(logit_j − peak), `peak`.

    尚未归一化的 softmax。

    `weights` are exp(logit_j − peak), with dropout; the mass is without. Peaks are constants of the derivative.
    """

    peak: Tensor
    mass: Tensor
    weights: Tensor

    @classmethod
    def of(cls, logits: Tensor, dropout: float = 0.0) -> Partial:
        """From logits [B, H, Q, K] with -inf where hidden; at least in float32."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        peak = logits.detach().amax(-1, keepdim=True)
        powers = torch.exp(logits - peak.masked_fill(peak.isneginf(), 0.0))
        weights = drop(powers, dropout) if dropout else powers
        return cls(peak, powers.sum(-1, keepdim=True), weights)

    def summed(self, mixed: Tensor) -> Partial:
        """The same with a sum over keys, [B, H, Q, D], in the place of the weights."""
        return Partial(self.peak, self.mass, mixed)

    @classmethod
    def collect(cls, piece: Piece, parts: Sequence[Partial]) -> Partial:
        """The rectangles of a piece as packed tokens [N, H, ...]."""
        peak, mass, mixed = (
            piece.collect(list(tensors))
            for tensors in zip(*((part.peak, part.mass, part.weights) for part in parts), strict=True)
        )
        return cls(peak, mass, mixed)


def join(partials: Sequence[Partial]) -> Tensor:
    """Σ over all keys of all partials, divided by their mass: [N, H, D]; zeros where a query sees nothing.

    合并各块的结果。
    """
    peak = torch.stack([partial.peak for partial in partials]).amax(0)
    peak = peak.masked_fill(peak.isneginf(), 0.0)
    factors = [torch.exp(partial.peak - peak) for partial in partials]
    mixed = sum(factor * partial.weights for factor, partial in zip(factors, partials, strict=True))
    mass = sum(factor * partial.mass for factor, partial in zip(factors, partials, strict=True))
    assert isinstance(mass, Tensor)
    return mixed / mass.masked_fill(mass == 0, 1.0)


class _Joint(torch.autograd.Function):
    """Rectangles through the CPU's flash kernel; the backward of each knows the log-sum-exp of all pieces.

    Equal to one softmax over the keys of all rectangles. Shapes: queries, keys and values as `attend_jointly` packs
    them; the gradients are those of the explicit form.
    """

    @staticmethod
    def forward(
        context: Any,
        pieces: Sequence[Piece],
        masks: Sequence[Tensor | None],
        scale: float,
        *flat: Tensor,
    ) -> Tensor:
        """One softmax over all pieces, put together from what the kernel gives for each."""
        rectangles = iter(_triples(flat))
        own_masks, found = iter(masks), []
        for piece in pieces:
            parts = [_flash(plan, next(rectangles), next(own_masks), scale) for plan in piece.plans]
            found.append(tuple(piece.collect([part[place] for part in parts]) for place in (0, 1)))
        logs = torch.stack([log for _, log in found])
        whole = torch.logsumexp(logs, 0)
        # A query that sees nothing has weights exp(-inf): zero, whatever it is compared with.
        shares = torch.exp(logs - whole.masked_fill(whole.isneginf(), 0.0))
        mixed = sum(share * part.to(share.dtype) for share, (part, _) in zip(shares, found, strict=True))
        assert isinstance(mixed, Tensor)
        mixed = mixed.to(flat[0].dtype)
        context.pieces, context.masks, context.scale = pieces, masks, scale
        context.save_for_backward(mixed, whole.masked_fill(whole.isneginf(), float("inf")), *flat)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        mixed, whole, *flat = context.saved_tensors
        slopes: list[Tensor | None] = [None, None, None]
        rectangles, masks = iter(_triples(flat)), iter(context.masks)
        for piece in context.pieces:
            given = zip(piece.plans, *(piece.spread(x) for x in (slope, mixed, whole)), strict=True)
            for plan, own_slope, own_mixed, log in given:
                part, mask = next(rectangles), next(masks)
                slopes += _backward(plan, part, mask, context.scale, (own_slope, own_mixed, log))
        return tuple(slopes)


def _triples(flat: Sequence[Tensor]) -> list[Rectangle]:
    return list(zip(flat[0::3], flat[1::3], flat[2::3], strict=True))


def _flash(plan: Plan, part: Rectangle, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """What one rectangle gives, [B, H, Q, D], and its log-sum-exp, [B, H, Q, 1]."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    mixed, log = kernel(*part, 0.0, plan.causal, attn_mask=mask, scale=scale)
    log = log[..., None]
    # The kernel writes 0 where a query sees nothing.
    return mixed, log if plan.blind is None else log.masked_fill(plan.blind, float("-inf"))


def _backward(
    plan: Plan, part: Rectangle, mask: Tensor | None, scale: float, joint: Rectangle
) -> tuple[Tensor, ...]:
    """Gradients of queries, keys and values, from the slope, the result and the log-sum-exp of all pieces."""
    slope, mixed, log = joint
    if plan.query.places is not None:
        log = log.masked_fill(~plan.query.real()[:, None, :, None], float("inf"))
    if slope.dtype == torch.bfloat16:
        return slopes_again(plan, part, scale, (slope, mixed, log))
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    log = log.squeeze(-1).contiguous()
    slopes: tuple[Tensor, ...] = kernel(
        slope, *part, mixed, log, 0.0, plan.causal, attn_mask=mask, scale=scale
    )
    return slopes
