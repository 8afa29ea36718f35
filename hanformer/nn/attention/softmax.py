"""Softmax attention, and the four steps that every other mechanism overrides one of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.functional.attend import attend
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import rotate
from hanformer.nn.functional.visibility import Visibility


class SoftmaxAttention(nn.Module):
    """softmax(q kᵀ / √D) v with H heads, in four steps: project, place, mix, merge.

    多头 softmax 注意力，分为投影、加位置、混合、合并四步。

    Query, key and value weights are separate parameters. Shapes: [N, C] to [N, C]; D = C / H.
    Source: Vaswani et al. 2017.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads, self.head_size = config.attention_heads, config.head_size
        self.scale = config.head_size**-0.5
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.output = nn.Linear(size, size)
        self.dropout = config.attention_dropout
        self.rotary = config.position == "rotary"

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, C] to queries, keys and values [N, H, D].

        Three products: joining the weights first costs more than it saves, above all for few tokens.
        """
        shape = (self.heads, self.head_size)
        query, key, value = (part(hidden).unflatten(-1, shape) for part in (self.query, self.key, self.value))
        return query, key, value

    def place(self, query: Tensor, key: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Adds what is known of the positions of N tokens to their queries and keys [N, H, D]."""
        if not self.rotary:
            return query, key
        table = layout.rotary(self.head_size, torch.promote_types(query.dtype, torch.float32))
        return rotate(query, table), rotate(key, table)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, visibility: Visibility) -> Tensor:
        """[N, H, D] thrice to [N, H, D]."""
        rate = self.dropout if self.training else 0.0
        return attend(query, key, value, visibility, scale=self.scale, dropout=rate)

    def merge(self, mixed: Tensor) -> Tensor:
        """[N, H, D] to [N, C]."""
        merged: Tensor = self.output(mixed.flatten(-2))
        return merged

    def forward(self, hidden: Tensor, visibility: Visibility) -> Tensor:
        """[N, C] to [N, C]."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, visibility.query)
        return self.merge(self.mix(query, key, value, visibility))

    def remember(self, hidden: Tensor, visibility: Visibility, cache: KeyValueCache, layer: int) -> Tensor:
        """`forward` over prompts that also stores their keys and values in the cache."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, visibility.query)
        cache.store_prompt(layer, key, value)
        return self.merge(self.mix(query, key, value, visibility))

    def extend(self, hidden: Tensor, cache: KeyValueCache, layer: int) -> Tensor:
        """Attention of appended tokens [R * T, C] over the prompt and what was appended before them."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, cache.layout)
        return self.merge(cache.attend(layer, query, key, value, self.scale))
