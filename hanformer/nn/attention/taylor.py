"""Softmax attention with a polynomial in place of exp."""

from __future__ import annotations

from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.mechanisms import Taylor
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.attention.state import DecodingState, state_as
from hanformer.nn.functional.normalisers import TaylorSoftmax


class TaylorAttention(SoftmaxAttention):
    """Attention whose weights are an even Taylor softmax of the logits.

    注意力权重由偶数阶泰勒 softmax 给出。

    Masks, relative positions and residual attention act on the logits as ever. All pairs are computed;
    `LinearAttention` with the map of the same order gives the same without them.
    Source: kexue.fm/archives/7919.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if not isinstance(config.attention, Taylor):
            raise TypeError(f"expected a config with a Taylor, got {config.attention!r}")
        self.normalise = TaylorSoftmax(config.attention.order, config.attention.monotone)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, batch: Pass) -> Tensor:
        """[N, H, D] thrice to [N, H, D]."""
        rate = self.dropout if self.training else 0.0
        return batch.mix(query, key, value, self.scale, rate, self.normalise)

    def extend(self, hidden: Tensor, cache: DecodingState, layer: int) -> Tensor:
        """Attention of appended tokens [R * T, C] over the prompt and what was appended before them."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, cache.layout)
        own = state_as(cache, KeyValueCache)
        return self.merge(own.attend(layer, query, key, value, self.scale, self.normalise))
