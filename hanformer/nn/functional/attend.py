"""The one room that knows attention kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from hanformer.nn.functional.dropping import drop
from hanformer.nn.functional.joint import attend_jointly, one_dtype
from hanformer.nn.functional.plans import Plan
from hanformer.nn.functional.visibility import Visibility
from hanformer.nn.functional.written import Rectangle, attend_written, keeps_weights

#: torch's kernels, and what says whether each is allowed now.
_ALLOWED: dict[SDPBackend, Callable[[], bool]] = {
    SDPBackend.MATH: torch.backends.cuda.math_sdp_enabled,
    SDPBackend.FLASH_ATTENTION: torch.backends.cuda.flash_sdp_enabled,
    SDPBackend.EFFICIENT_ATTENTION: torch.backends.cuda.mem_efficient_sdp_enabled,
    SDPBackend.CUDNN_ATTENTION: torch.backends.cuda.cudnn_sdp_enabled,
}
#: Normalises logits [..., Q, K] whose hidden entries are -inf.
Normaliser = Callable[[Tensor], Tensor]


def softmax(logits: Tensor) -> Tensor:
    """Softmax over keys, at least in float32; a row with nothing visible gives zeros, not NaN.

    对键做 softmax（至少用 float32）；一个键都看不见的行输出零而不是 NaN。
    """
    weights = torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return weights.masked_fill(logits.isneginf().all(-1, keepdim=True), 0.0).to(logits.dtype)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visibility: Visibility,
    *,
    scale: float,
    dropout: float = 0.0,
    biases: Sequence[Tensor] | None = None,
) -> Tensor:
    """Softmax attention over a packed batch: out_i = Σ_j softmax_j(scale · q_i·k_j) v_j over visible j.

    打包批次上的 softmax 注意力。

    Shapes: `query` [Nq, H, D], `key` [Nk, G, D], `value` [Nk, G, D']; result [Nq, H, D']. Rows never look at
    other rows. H is a multiple of G: neighbouring query heads share a key head. `dropout` is the rate on
    attention weights (0 outside training). `biases`, one of shape [rows or 1, H, Q, K] for each plan of the pieces in
    turn, are added to the logits and take the place of the masks: what is hidden is -inf in them.
    Equal to `attend_explicit`.
    """
    share = query.shape[1] // key.shape[1]
    if share > 1:
        key, value = key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)
    pieces = visibility.pieces
    if not pieces:
        return query.new_zeros(*query.shape[:-1], value.shape[-1])
    if len(pieces) > 1:
        return attend_jointly(query, key, value, pieces, scale=scale, dropout=dropout, biases=biases)
    query, key, value = one_dtype(query, key, value)
    rectangles = pieces[0].rectangles(query, key, value)
    added: Sequence[Tensor | None] = biases or [None] * len(rectangles)
    mixed = [
        _attend_one(rectangle, plan, bias, scale, dropout)
        for plan, rectangle, bias in zip(pieces[0].plans, rectangles, added, strict=True)
    ]
    return pieces[0].collect(mixed)


def _attend_one(part: Rectangle, plan: Plan, bias: Tensor | None, scale: float, dropout: float) -> Tensor:
    """One rectangle, by the kernel that is fast for it."""
    if keeps_weights(part, dropout):
        return attend_written(part, plan, bias, scale, dropout)
    return functional.scaled_dot_product_attention(
        *part,
        attn_mask=plan.mask if bias is None else bias,
        dropout_p=dropout,
        is_causal=plan.causal and bias is None,
        scale=scale,
    )


def attend_explicit(
    logits: Tensor,
    value: Tensor,
    visible: Tensor,
    normalise: Normaliser = softmax,
    value_bias: Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Attention from given logits, step by step: the naive oracle, and the path of kinds that need the scores.

    由给定的 logits 逐步计算注意力：朴素定义，也供需要注意力矩阵的机制使用。

    Shapes: `logits` [B, H, Q, K], `value` [B, H, K, D], `visible` bool broadcastable to [B, H, Q, K],
    `value_bias` [Q, K, D] added to the values a query sees, or None; `dropout` the rate on weights.
    Returns ([B, H, Q, D], weights [B, H, Q, K]).
    """
    weights = normalise(logits.masked_fill(~visible, float("-inf"))).to(value.dtype)
    if dropout:
        weights = drop(weights, dropout)
    mixed = weights @ value
    if value_bias is not None:
        mixed = mixed + torch.einsum("bhqk,qkd->bhqd", weights, value_bias)
    return mixed, weights


class SameKernels(AbstractContextManager[None]):
    """Inside, the kernels that were allowed when it was made; it may be entered again, one time after the other.

    在此上下文中，只用创建时允许的实现；可多次进入。
    """

    def __init__(self) -> None:
        self._allowed = [kernel for kernel, allowed in _ALLOWED.items() if allowed()]

    def __enter__(self) -> None:
        self._inside = sdpa_kernel(self._allowed)
        self._inside.__enter__()

    def __exit__(self, *problem: Any) -> None:
        self._inside.__exit__(*problem)


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Inside, attention runs on a kernel that has a second derivative (the CPU's default has none).

    在此上下文中，注意力使用二次可微的实现（供梯度惩罚等使用）。
    """
    with sdpa_kernel(SDPBackend.MATH):
        yield
