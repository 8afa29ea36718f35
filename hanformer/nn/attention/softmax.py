"""Softmax attention, and the four steps that every other mechanism overrides one of."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.relative import RelativePositions
from hanformer.nn.attention.state import DecodingState, state_as
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import rotate, rotate_halves
from hanformer.nn.functional.visibility import Rule

#: How queries and keys are turned, for the positions that turn them.
_TURNS = {"rotary": rotate, "rotary_halves": rotate_halves}


class SoftmaxAttention(nn.Module):
    """softmax(q kᵀ / √D) v with H heads, in four steps: project, place, mix, merge.

    多头 softmax 注意力，分为投影、加位置、混合、合并四步。

    Query, key and value weights are separate parameters; keys and values may have G < H heads, each shared by
    neighbouring query heads. Shapes: [N, C] to [N, C]. Raises UserError for rotary positions and keys of an odd size.
    Source: Vaswani et al. 2017; for G < H Ainslie et al. 2023, arXiv 2305.13245.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, bias = config.hidden_size, config.biases != "none"
        self.key_size, self.head_size = config.key_size, config.head_size
        self.scale = config.key_size**-0.5 if config.scale_attention else 1.0
        self.query = nn.Linear(size, config.attention_heads * config.key_size, bias=bias)
        self.key = nn.Linear(size, config.groups * config.key_size, bias=bias)
        self.value = nn.Linear(size, config.groups * config.head_size, bias=bias)
        self.output = nn.Linear(config.attention_heads * config.head_size, size, bias=config.has_biases)
        #: The three layers as one, where weights are packed (`prepacked`).
        self.joined: nn.Module | None = None
        self.dropout = config.attention_dropout
        self.rotate = _TURNS.get(config.position)
        if self.rotate is not None and self.key_size % 2:
            raise UserError(
                f"attention: {config.position} positions turn pairs of channels, and keys of {self.key_size} are no "
                "pairs: take an even size, or another position"
            )
        self.rotary_base = config.rotary_base

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, C] to queries [N, H, D], keys and values [N, G, D].

        Three products: joining the weights first costs more than it saves, above all for few tokens.
        """
        if self.joined is None:
            return (self.project_query(hidden), *self.project_memory(hidden))
        sizes = [layer.out_features for layer in self.joinable()]
        query, key, value = self.joined(hidden).split(sizes, -1)
        size = (-1, self.key_size)
        return query.unflatten(-1, size), key.unflatten(-1, size), value.unflatten(-1, (-1, self.head_size))

    def joinable(self) -> tuple[nn.Linear, ...]:
        """The layers that may become one `joined`, in its order; none where `project` does more than they do."""
        return (self.query, self.key, self.value)

    def project_query(self, hidden: Tensor) -> Tensor:
        """[N, C] to queries [N, H, D]."""
        query: Tensor = self.query(hidden)
        return query.unflatten(-1, (-1, self.key_size))

    def project_memory(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C] to keys and values [N, G, D]."""
        key, value = self.key(hidden), self.value(hidden)
        return key.unflatten(-1, (-1, self.key_size)), value.unflatten(-1, (-1, self.head_size))

    def place(self, query: Tensor, key: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Adds what is known of the positions of N tokens to their queries and keys [N, H, D]."""
        if self.rotate is None:
            return query, key
        dtype = torch.promote_types(query.dtype, torch.float32)
        table = layout.rotary(self.key_size, dtype, self.rotary_base)
        return self.rotate(query, table), self.rotate(key, table)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, batch: Pass) -> Tensor:
        """[N, H, D] thrice to [N, H, D]."""
        return batch.mix(query, key, value, self.scale, self.dropout if self.training else 0.0)

    def merge(self, mixed: Tensor) -> Tensor:
        """[N, H, D] to [N, C]."""
        merged: Tensor = self.output(mixed.flatten(-2))
        return merged

    def forward(self, hidden: Tensor, batch: Pass) -> Tensor:
        """[N, C] to [N, C]."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, batch.visibility.query)
        return self.merge(self.mix(query, key, value, batch))

    def across(self, hidden: Tensor, memory: Tensor, batch: Pass) -> Tensor:
        """Attention of [Nq, C] over a memory [Nk, C], as a decoder looks at its encoder."""
        return self.merge(self.mix(self.project_query(hidden), *self.project_memory(memory), batch))

    def begin_pass(self) -> None:
        """Called once before a batch goes through the stack, however many layers share this attention."""

    def twice(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts for a pass, and for computing it again on the way back, so that both find the same."""
        return nullcontext(), nullcontext()

    def fresh(self, name: str) -> Tensor | None:
        """What a parameter or buffer of this module starts with where no checkpoint brings it; None: as any weight."""
        return None

    def state_kind(self, rule: Rule) -> type[DecodingState]:
        """What decoding keeps where `rule` says who sees whom."""
        return KeyValueCache

    def remember(self, hidden: Tensor, batch: Pass, cache: DecodingState, layer: int) -> Tensor:
        """`forward` over prompts that also stores their keys and values in the cache."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, batch.visibility.query)
        state_as(cache, KeyValueCache).store_prompt(layer, key, value)
        return self.merge(self.mix(query, key, value, batch))

    def extend(self, hidden: Tensor, cache: DecodingState, layer: int) -> Tensor:
        """Attention of appended tokens [R * T, C] over the prompt and what was appended before them."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, cache.layout)
        own = state_as(cache, KeyValueCache)
        return self.merge(own.attend(layer, query, key, value, self.scale))

    def recall(
        self, hidden: Tensor, cache: DecodingState, layer: int, relative: RelativePositions | None = None
    ) -> Tensor:
        """Attention of appended tokens [R * T, C] over the memory of the cache."""
        return self.merge(cache.recall(layer, self.project_query(hidden), self.scale, relative))
