"""Weights of another size: a published model as the start of a wider or a narrower one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError

#: The fields of a config that resizing may change.
SIZES = frozenset(
    {
        "hidden_size",
        "intermediate_size",
        "embedding_size",
        "attention_heads",
        "attention_head_size",
        "attention_key_size",
        "key_value_heads",
        "vocab_size",
        "segment_vocab_size",
        "max_positions",
    }
)


def orthogonally_resize(tensor: Tensor, shape: Sequence[int], window: int = 2) -> Tensor:
    """A tensor of another shape and the same Frobenius norm: grown by repetition, shrunk by cutting.

    按重复与截断改变形状，保持 Frobenius 范数。

    Along an axis that grows from d to d', each of the d / `window` blocks comes ⌈d' / d⌉ times in a row, and the
    first d' entries are kept. Where both axes of a matrix grow k-fold, A' rep(x) = rep(A x) for vectors repeated
    alike; where its rows alone do, A'ᵀA' = AᵀA. Shapes: any to as many dimensions.
    Raises UserError for another number of dimensions, and for a growing axis that is no multiple of `window`.
    Source: bert4keras (`autoresize_weights`).
    """
    if tensor.dim() != len(shape) or window < 1 or any(length < 0 for length in shape):
        raise UserError(
            f"resizing: expected as many lengths as {list(tensor.shape)} has, none below 0, and a window of 1 or more; "
            f"got {list(shape)} and {window}"
        )
    grown = tensor
    for axis, length in enumerate(shape):
        grown = _along(grown, axis, length, window)
    norms = [torch.linalg.vector_norm(value, dtype=torch.float64) for value in (tensor, grown)]
    share = torch.where(norms[1] > 0, norms[0] / norms[1], torch.ones_like(norms[1]))
    return (grown * share.to(grown.dtype)).contiguous()


def _along(tensor: Tensor, axis: int, length: int, window: int) -> Tensor:
    stored = tensor.shape[axis]
    if length <= stored:
        return tensor.narrow(axis, 0, length)
    if not stored or stored % window:
        raise UserError(
            f"resizing: {list(tensor.shape)} grows along axis {axis} in blocks of {window}, and {stored} is no "
            "multiple of that; choose another window, or for a vocabulary compound_tokens"
        )
    times = -(-length // stored)
    blocks = tensor.unflatten(axis, (stored // window, window))
    return blocks.repeat_interleave(times, axis).flatten(axis, axis + 1).narrow(axis, 0, length)


def resizer(config: ModelConfig) -> Callable[[str, Tensor, torch.Size], Tensor]:
    """How the parameters of a model of that config are resized.

    按配置给出各参数的缩放方式。

    `orthogonally_resize`, and beyond it, for n output channels now and n₀ before: query and key × (n / n₀)^¼ (where
    attention divides by the root of the key size); the first part of a feed-forward layer × √(n / n₀), but not
    under relu; its last part × √(m₀ / m) of its m input channels. Where the width grows k-fold, with the width of
    heads and of the feed-forward layer or without, a post-norm model then computes the same hidden states, repeated
    and divided by √k (not under relu). Tensors of another number of dimensions are left.
    Source: bert4keras (`autoresize_weights`).
    """

    def resize(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
        if tensor.dim() != len(shape) or not tensor.is_floating_point():
            return tensor
        return orthogonally_resize(tensor, shape) * _scale(name, tensor.shape, shape, config)

    return resize


def as_stored(name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
    """No resizing: the tensor as it is. 不缩放。"""
    return tensor


def _scale(name: str, stored: torch.Size, shape: torch.Size, config: ModelConfig) -> float:
    module, kind = name.rsplit(".", 1)
    grows = shape[0] / stored[0]
    if module.endswith((".query", ".key")) and config.scale_attention:
        return grows**0.25
    if module.endswith((".feedforward.expand", ".feedforward.gated")):
        return 1.0 if config.activation == "relu" else grows**0.5
    if module.endswith(".feedforward.contract") and kind == "weight":
        return float((stored[1] / shape[1]) ** 0.5)
    return 1.0
