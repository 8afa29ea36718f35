"""A stack whose last layer works for the first token of every row alone. 末层只为每行首词元计算。"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from hanformer.models.stack import Stack
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.functional.packing import Layout


def first_places(layout: Layout) -> Tensor:
    """Where each row's first token stands: int64 [B]. 各行首词元的位置。"""
    return torch.tensor(layout.offsets[:-1], dtype=torch.int64, device=layout.positions.device)


def first_tokens(stack: Stack, embedded: Tensor, layout: Layout) -> Tensor:
    """`stack(embedded, ...)` at the first token of every row: [N, C] to [B, C], no row being empty.

    整个堆叠在每行首词元处的输出；末层的查询与前馈层只算这些词元，键和值仍为全部词元。

    Attention of another kind than softmax, and one that goes on from the logits of the layer below (RealFormer), have
    no such form: all of the last layer is computed then.
    """
    first = first_places(layout)
    blocks = [block for _, block in stack.each()]
    if stack.residual or not blocks or not all(_is_plain(block.attention) for block in blocks):
        whole: Tensor = stack(embedded, stack.begin(layout))
        return whole[first]
    batch, hidden, last = stack.begin(layout), embedded, blocks[-1]
    for block in blocks[:-1]:
        hidden = block(hidden, partial(block.attention, batch=batch))
    memory = last.seen_by_attention(hidden)
    looking = partial(_look, last.attention, memory, _pass_of_first(stack, layout, first))
    return stack.finish(last(hidden[first], looking))


def _pass_of_first(stack: Stack, layout: Layout, first: Tensor) -> Pass:
    """First tokens look at their rows as the rule says: being first, their place and running sum stay the same."""
    ones = Layout((1,) * layout.rows, layout.positions[first], layout.segments[first])
    return Pass(stack.rule.bind(ones, layout), stack.relative)


def _look(attention: SoftmaxAttention, memory: Tensor, batch: Pass, hidden: Tensor) -> Tensor:
    """[B, C] over the tokens [N, C] that they are the first of."""
    query, (key, value) = attention.project_query(hidden), attention.project_memory(memory)
    query = attention.place(query, query, batch.visibility.query)[0]
    key = attention.place(key, key, batch.visibility.key)[1]
    return attention.merge(attention.mix(query, key, value, batch))


def _is_plain(attention: SoftmaxAttention) -> bool:
    return type(attention) is SoftmaxAttention
