"""Pooling: from the hidden states of packed rows to one vector a row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout

Pooling = Callable[[Tensor, Layout], Tensor]
"""Hidden states [N, C] of rows that are not empty, to [B, C]. 池化函数。"""

POOLINGS = ("cls", "mean", "pooled", "last")


def first_token(hidden: Tensor, layout: Layout) -> Tensor:
    """The state of each row's first token, [CLS]: [N, C] to [B, C]. 取首词元。"""
    return hidden[_places(layout.offsets[:-1], hidden)]


def last_token(hidden: Tensor, layout: Layout) -> Tensor:
    """The state of each row's last token, which alone has read the whole row in a language model.

    取末词元：语言模型中只有它读过整行。

    Shapes: [N, C] to [B, C].
    """
    return hidden[_places([end - 1 for end in layout.offsets[1:]], hidden)]


def mean_of_tokens(hidden: Tensor, layout: Layout) -> Tensor:
    """The mean over all tokens of a row, [CLS] and [SEP] included; summed in float32 at least.

    对一行的全部词元（含 [CLS]、[SEP]）取平均。

    Shapes: [N, C] to [B, C]. Source: Reimers and Gurevych 2019, arXiv 1908.10084.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    rows = hidden.split(list(layout.lengths))
    return torch.stack([row.mean(0, dtype=wide) for row in rows]).to(hidden.dtype)


def check_pooling(name: str) -> None:
    """Raises UserError for a pooling of another name. 检查池化名称。"""
    if name not in POOLINGS:
        raise UserError(f"pooling: expected one of {', '.join(POOLINGS)}, got {name!r}")


def pooling_of(name: str, model: Transformer | EncoderDecoder) -> Pooling:
    """The pooling of that name: cls, mean, pooled (the model's own pooler over the first token), last.

    按名称取池化方式；pooled 使用模型自带的 pooler。

    Raises UserError for another name, and for "pooled" where the model has no pooler.
    """
    check_pooling(name)
    if name != "pooled":
        return {"cls": first_token, "mean": mean_of_tokens, "last": last_token}[name]
    pooler = None if isinstance(model, EncoderDecoder) else model.pooler
    if pooler is None:
        raise UserError(
            'pooling: this model has no pooler; load it with heads=("pool",), or pool by cls or mean'
        )
    return lambda hidden, layout: pooler(first_token(hidden, layout))


def _places(places: tuple[int, ...] | list[int], like: Tensor) -> Tensor:
    return torch.tensor(places, dtype=torch.int64, device=like.device)
