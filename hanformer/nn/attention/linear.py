"""Linear attention: similarities that are products of features, summed once for all queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import Linear
from hanformer.nn.attention.feature_maps import Cosine, DoubleSoftmax, Elu, FeatureMap, Monomials
from hanformer.nn.attention.feature_memory import room_for_features
from hanformer.nn.attention.linear_state import LinearState
from hanformer.nn.attention.linear_sums import (
    Keys,
    Rectangle,
    causal,
    full,
    gathered,
    prefixes,
    ratio,
    rectangles,
    wide,
    with_ones,
)
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.attention.state import DecodingState, state_as
from hanformer.nn.functional.groups import rectangle
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Causal, Full, Rule, UniLM, Visibility

#: Positions that act on embeddings, or on queries and keys one by one.
CARRIED = ("learned", "sinusoidal", "rotary", "rotary_halves", "none")


class Mixing(Protocol):
    """What queries [B, H, T, D] see of the keys of their rectangle; `apart` as in `linear_sums.full`."""

    def __call__(self, query: Tensor, keys: Keys, *, apart: bool = False) -> Tensor: ...


#: Each map from the record, the size of keys and the scale of q·k.
MAPS: dict[str, Callable[[Linear, int, float], FeatureMap]] = {
    "elu": lambda record, size, scale: Elu(),
    "cosine": lambda record, size, scale: Cosine(),
    "double_softmax": lambda record, size, scale: DoubleSoftmax(),
    "taylor": lambda record, size, scale: Monomials(size, record.order, scale),
}


class LinearAttention(SoftmaxAttention):
    """o_i = φ(q_i)·Σ_j ϕ(k_j) v_jᵀ / φ(q_i)·Σ_j ϕ(k_j): cost grows with the length, not with its square.

    线性注意力：先对键值求和，再与查询相乘，代价随长度线性增长。

    Full attention sums over each row; causal attention runs in chunks, and decodes with a state of fixed size. UniLM is
    a full prefix and a causal rest; rows whose segments go back to 0 are computed with all pairs, exactly. Sums are in
    float32 at least. Rotary positions turn queries and keys before their features. There are no weights to drop:
    `attention_dropout` does nothing here. Raises UserError for relative positions, residual attention, and a map that
    looks at the whole row in a model that may not.
    Source: Katharopoulos et al. 2020, arXiv 2006.16236; kexue.fm/archives/7546.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        name = config.attention.name
        if config.position not in CARRIED:
            raise UserError(
                f"attention: {name} has no scores that positions {config.position!r} could be added to; "
                f"it carries {', '.join(CARRIED)}"
            )
        if config.residual_attention:
            raise UserError(f"attention: {name} has no scores to hand on: it goes without residual_attention")
        if isinstance(config.attention, Linear):
            self._map = MAPS[config.attention.features](config.attention, self.key_size, self.scale)
            one_way = config.application != "encoder" or config.decoder_layers is not None
            if one_way and not self._map.tokenwise:
                raise UserError(
                    f"attention: {config.attention.features} normalises keys over the whole row, and so sees what "
                    "comes later: it serves encoders alone"
                )

    def feature_map(self) -> FeatureMap:
        """φ and ϕ."""
        return self._map

    def mix(self, query: Tensor, key: Tensor, value: Tensor, batch: Pass) -> Tensor:
        """[N, H, D], [N, G, D] and [N, G, D'] to [N, H, D']."""
        with room_for_features(self.feature_map(), query), torch.autocast(query.device.type, enabled=False):
            if batch.keep:
                mixed, weights = self._mix_pairs(query, key, value, batch.visibility)
                batch.weights.append(weights)
                return mixed
            work = self._work(batch.visibility)
            if work is None:
                return self._mix_pairs(query, key, value, batch.visibility)[0]
            return self._mix_rectangles(self.feature_map(), query, key, value, work)

    def _work(self, visibility: Visibility) -> list[tuple[Rectangle, Mixing]] | None:
        """The rectangles of the batch, and what their tokens see; None where that takes all pairs.

        Sums know full and causal attention and prefixes; any other rule is honoured pair by pair.
        """
        rule, layout = visibility.rule, visibility.query
        if rule.is_full or rule.is_causal:
            mixing: Mixing = full if rule.is_full else _to_the_left
            return [(part, mixing) for part in rectangles(layout)]
        first = prefixes(layout) if isinstance(rule, UniLM) else None
        if first is None:
            return None
        pairs = zip(rectangles(layout), first, strict=True)
        return [(part, partial(_after_prefix, prefix=prefix)) for part, prefix in pairs]

    def _mix_rectangles(
        self,
        features: FeatureMap,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        work: Sequence[tuple[Rectangle, Mixing]],
        apart: bool = False,
    ) -> Tensor:
        """What the tokens of each rectangle see, each in its way: [N, H, D'], or [N, H, E] `apart`."""
        rectangles = [part for part, _ in work]
        queries = gathered(query, rectangles)
        keys = keys_of(features, key, value, rectangles, query.shape[1])
        parts = [
            part.group.scatter(mixing(own, seen, apart=apart).to(value.dtype))
            for (part, mixing), own, seen in zip(work, queries, keys, strict=True)
        ]
        if not parts:
            return (
                with_ones(value)
                if apart
                else query.new_zeros(0, query.shape[1], value.shape[-1], dtype=value.dtype)
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _mix_pairs(
        self, query: Tensor, key: Tensor, value: Tensor, visibility: Visibility
    ) -> tuple[Tensor, Tensor]:
        """The definition, with all pairs: [N, H, D'] and weights [B, H, T, T]."""
        group = rectangle(visibility.query)
        real = group.real().to(query.device)[:, None, :, None]
        own, keys, values = (wide(group.gather(shared(x, query.shape[1]))) for x in (query, key, value))
        features = Keys(self.feature_map(), keys, values, real).expand()[0]
        alike = (self.feature_map().query(own) @ features.mT).masked_fill(~visibility.dense()[:, None], 0.0)
        below = alike.sum(-1, keepdim=True)
        weights = alike / below.masked_fill(below == 0, 1.0)
        return group.scatter(weights @ values).to(value.dtype), weights.to(value.dtype)

    # ----------------------------------------------------------------------------------------- decoding
    def state_kind(self, rule: Rule) -> type[DecodingState]:
        """Sums of fixed size. Raises UserError for a rule that a sum over all that came before cannot honour."""
        if not isinstance(rule, Full | Causal | UniLM):
            raise UserError(
                f"attention: sums of fixed size cannot leave out what {type(rule).__name__} hides while decoding; "
                "take softmax, or another rule"
            )
        return LinearState

    def remember(self, hidden: Tensor, batch: Pass, cache: DecodingState, layer: int) -> Tensor:
        """`forward` over prompts that also stores the sums over each prompt."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, batch.visibility.query)
        state_as(cache, LinearState).store_prompt(
            layer, self._totals(key, value, batch.visibility.query, query.shape[1])
        )
        return self.merge(self.mix(query, key, value, batch))

    def _totals(self, key: Tensor, value: Tensor, layout: Layout, heads: int) -> Tensor:
        """The sums over each prompt: [P, H, m, E]. Prompts have tokens, so every row is in a rectangle."""
        with torch.autocast(key.device.type, enabled=False):
            keys = keys_of(self.feature_map(), key, value, rectangles(layout), heads)
            return torch.cat([seen.total() for seen in keys])

    def extend(self, hidden: Tensor, cache: DecodingState, layer: int) -> Tensor:
        """Attention of appended tokens [R * T, C] over the prompt and what was appended before them."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, cache.layout)
        state = state_as(cache, LinearState)
        heads, shape = query.shape[1], (cache.rows, -1)
        with torch.autocast(query.device.type, enabled=False):
            own, keys, values = (
                wide(shared(x, heads)).unflatten(0, shape).transpose(1, 2) for x in (query, key, value)
            )
            features = self.feature_map().key(keys)
            sums = state.attend(layer, self.feature_map().query(own), features, with_ones(values))
            mixed = ratio(sums, value.shape[-1]).transpose(1, 2).flatten(0, 1).to(value.dtype)
        return self.merge(mixed)


def shared(x: Tensor, heads: int) -> Tensor:
    """[N, G, D] to [N, H, D]: neighbouring query heads share a key head. 多个查询头共用一个键值头。"""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def keys_of(
    features: FeatureMap, key: Tensor, value: Tensor, parts: Sequence[Rectangle], heads: int
) -> list[Keys]:
    """The keys and values of each rectangle, one for every query head. 各矩形的键与值。"""
    owned = zip(parts, *(gathered(shared(x, heads), parts) for x in (key, value)), strict=True)
    return [Keys(features, own, own_value, part.real) for part, own, own_value in owned]


def _to_the_left(query: Tensor, keys: Keys, *, apart: bool = False) -> Tensor:
    """Causal attention. Padding stands on the right, where no real token looks."""
    return causal(query, replace(keys, kept=None), apart=apart)


def _after_prefix(query: Tensor, keys: Keys, *, prefix: Tensor, apart: bool = False) -> Tensor:
    """Causal attention, what stands in the prefix being there before the first token."""
    before = replace(keys, kept=prefix).total()
    return causal(query, replace(keys, kept=~prefix), before, apart=apart)
