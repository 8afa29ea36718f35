"""Pooling: from packed rows to one vector a row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.first_tokens import first_tokens
from hanformer.models.stack import Stack
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout

Pooling = Callable[[Tensor, Layout], Tensor]
"""Hidden states [N, C] of rows that are not empty, to [B, C]. 池化函数。"""
Run = Callable[[Tensor, Layout], Tensor]
"""Packed ids [N] of rows that are not empty, to [B, C]. 编码函数。"""

POOLINGS = ("cls", "mean", "pooled", "last")


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


#: Poolings that read more than the first token.
_OF_ALL = {"mean": mean_of_tokens, "last": last_token}


def check_pooling(name: str) -> None:
    """Raises UserError for a pooling of another name. 检查池化名称。"""
    if name not in POOLINGS:
        raise UserError(f"pooling: expected one of {', '.join(POOLINGS)}, got {name!r}")


def run_of(name: str, model: Transformer | EncoderDecoder) -> Run:
    """Packed ids to pooled vectors by that pooling: cls, mean, last, or pooled, the model's own pooler.

    按池化名称取“编号到向量”的函数；只需首词元时，末层只算首词元。

    Raises UserError for another name, and for "pooled" where the model has no pooler.
    """
    check_pooling(name)
    if name in _OF_ALL:
        return partial(_pooled, model, _OF_ALL[name])
    finish = _unchanged if name == "cls" else _pooler_of(model)
    return partial(_first, model, finish)


def _pooler_of(model: Transformer | EncoderDecoder) -> Callable[[Tensor], Tensor]:
    pooler = None if isinstance(model, EncoderDecoder) else model.pooler
    if pooler is None:
        raise UserError(
            'pooling: this model has no pooler; load it with heads=("pool",), or pool by cls or mean'
        )
    return pooler


def _pooled(model: Transformer | EncoderDecoder, pool: Pooling, ids: Tensor, layout: Layout) -> Tensor:
    stack, embedded = _parts(model, ids, layout)
    return pool(stack(embedded, stack.begin(layout)), layout)


def _first(
    model: Transformer | EncoderDecoder, finish: Callable[[Tensor], Tensor], ids: Tensor, layout: Layout
) -> Tensor:
    stack, embedded = _parts(model, ids, layout)
    return finish(first_tokens(stack, embedded, layout))


def _parts(model: Transformer | EncoderDecoder, ids: Tensor, layout: Layout) -> tuple[Stack, Tensor]:
    """The stack that encodes, and what it is given."""
    stack = model.encoder if isinstance(model, EncoderDecoder) else model.stack
    embedded: Tensor = model.embeddings(ids, layout)
    return stack, embedded


def _unchanged(vectors: Tensor) -> Tensor:
    return vectors


def _places(places: list[int], like: Tensor) -> Tensor:
    return torch.tensor(places, dtype=torch.int64, device=like.device)
