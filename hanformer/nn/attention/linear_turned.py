"""Linear attention whose features are turned by rotary positions: in the numerator alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import Linear, Performer
from hanformer.nn.attention.feature_maps import FeatureMap, Given, Positive
from hanformer.nn.attention.linear import LinearAttention, keys_of, shared
from hanformer.nn.attention.linear_state import LinearState
from hanformer.nn.attention.linear_sums import divided, rectangles, wide, with_ones
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.performer import PerformerAttention
from hanformer.nn.attention.state import DecodingState, state_as
from hanformer.nn.functional.groups import rectangle
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import rotate_halves
from hanformer.nn.functional.visibility import Visibility


class TurnedLinearAttention(LinearAttention):
    """o_i = Σ_j (R_i φ(q_i))·(R_j ϕ(k_j)) v_j / Σ_j φ(q_i)·ϕ(k_j), R the turns of rotary positions.

    旋转位置作用于特征、且只作用于分子的线性注意力：分母保持为正，分子的权重可以为负。

    The denominator stays positive; weights may be negative, and no longer sum to 1. Numerator and denominator are sums
    of their own, computed as twice the heads. Raises UserError as `LinearAttention` does, for other positions than
    rotary ones, an odd number of features, and a map that looks at the whole row.
    Source: kexue.fm/archives/8265; Su et al. 2021, arXiv 2104.09864.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        name, count = config.attention.name, features_of(config)
        if self.rotate is None:
            raise UserError(
                f"attention: {name} with rotates=features turns features by rotary positions, and there are "
                f"{config.position!r}; set position=rotary, or rotates=inputs"
            )
        if count % 2:
            raise UserError(
                f"attention: {name} has {count} features, and positions turn pairs of them: take an even number, "
                "or rotates=inputs"
            )

    def place(self, query: Tensor, key: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Nothing yet: features are turned, not what they are made of."""
        return query, key

    def mix(self, query: Tensor, key: Tensor, value: Tensor, batch: Pass) -> Tensor:
        """[N, H, D], [N, G, D] and [N, G, D'] to [N, H, D']."""
        with torch.autocast(query.device.type, enabled=False):
            layout, heads = batch.visibility.query, query.shape[1]
            own = self._turned(self.feature_map().query(wide(query)), layout)
            keys, values = self._memory(key, value, layout, heads)
            work = None if batch.keep else self._work(batch.visibility)
            if work is None:
                mixed, weights = self._mix_turned_pairs(own, keys, values, batch.visibility)
                if batch.keep:
                    batch.weights.append(weights.to(value.dtype))
                return mixed.to(value.dtype)
            sums = self._mix_rectangles(Given(), own, keys, values, work, apart=True)
        return divided(sums[:, :heads], sums[:, heads:], value.shape[-1]).to(value.dtype)

    def _turned(self, features: Tensor, layout: Layout) -> Tensor:
        """[N, H, m] to [N, 2 H, m]: turned for the numerator, and as they are for the denominator."""
        assert self.rotate is not None
        table = layout.rotary(features.shape[-1], features.dtype, self.rotary_base)
        return torch.cat([self.rotate(features, table), features], 1)

    def _memory(self, key: Tensor, value: Tensor, layout: Layout, heads: int) -> tuple[Tensor, Tensor]:
        """Features [N, 2 H, m] of keys, and values [N, 2 H, D'] for them."""
        features = self.feature_map().key(wide(shared(key, heads)))
        return self._turned(features, layout), wide(shared(value, heads)).repeat(1, 2, 1)

    def _mix_turned_pairs(
        self, own: Tensor, keys: Tensor, values: Tensor, visibility: Visibility
    ) -> tuple[Tensor, Tensor]:
        """The definition, with all pairs: [N, H, D'] and weights [B, H, T, T]."""
        group = rectangle(visibility.query)
        own, keys, values = (group.gather(x) for x in (own, keys, values))
        hidden = ~(visibility.dense() & group.real().to(own.device)[:, None, :])[:, None]
        above, below = (own @ keys.mT).masked_fill(hidden, 0.0).chunk(2, 1)
        total = below.sum(-1, keepdim=True)
        weights = above / total.masked_fill(total == 0, 1.0)
        return group.scatter(weights @ values.chunk(2, 1)[0]), weights

    def _totals(self, key: Tensor, value: Tensor, layout: Layout, heads: int) -> Tensor:
        """The sums over each prompt: [P, 2 H, m, E]."""
        with torch.autocast(key.device.type, enabled=False):
            features, values = self._memory(key, value, layout, heads)
            keys = keys_of(Given(), features, values, rectangles(layout), features.shape[1])
            return torch.cat([seen.total() for seen in keys])

    def extend(self, hidden: Tensor, cache: DecodingState, layer: int) -> Tensor:
        """Attention of appended tokens [R * T, C] over the prompt and what was appended before them."""
        query, key, value = self.project(hidden)
        heads, shape = query.shape[1], (cache.rows, -1)
        with torch.autocast(query.device.type, enabled=False):
            own = self._turned(self.feature_map().query(wide(query)), cache.layout)
            given = (own, *self._memory(key, value, cache.layout, heads))
            own, keys, values = (x.unflatten(0, shape).transpose(1, 2) for x in given)
            sums = state_as(cache, LinearState).attend(layer, own, keys, with_ones(values))
            mixed = divided(sums[:, :heads], sums[:, heads:], value.shape[-1])
        return self.merge(mixed.transpose(1, 2).flatten(0, 1).to(value.dtype))


class TurnedPerformerAttention(PerformerAttention, TurnedLinearAttention):
    """The same with the random features of a Performer. 旋转位置作用于 Performer 的随机特征。"""

    def feature_map(self) -> FeatureMap:
        """As a Performer's, but that what is moved from keys to queries is one for both features of a pair: a turn
        mixes them, and no other factors would cancel. 同一对特征须共用同一缩放，旋转后才能抵消。"""
        if self.record.kernel != "softmax":
            return super().feature_map()
        return Positive(self.projection, self.scale, self._largest_of_pairs)

    def _largest_of_pairs(self, moved: Tensor) -> Tensor:
        """[m] to [m]: of both features that a turn mixes the larger number."""
        halves = self.rotate is rotate_halves
        pairs = moved.unflatten(0, (2, -1) if halves else (-1, 2))
        return pairs.amax(0 if halves else -1, keepdim=True).expand_as(pairs).flatten()


def features_of(config: ModelConfig) -> int:
    """How many features a head has. 每个注意力头的特征数。

    Raises UserError for a map whose features of one key depend on the others.
    """
    record, size = config.attention, config.key_size
    if isinstance(record, Performer):
        return record.features
    if not isinstance(record, Linear):
        raise TypeError(f"expected a config with a Linear or a Performer, got {record!r}")
    if record.features == "double_softmax":
        raise UserError(
            "attention: double_softmax normalises each feature over the whole row, which turned features would undo; "
            "take rotates=inputs"
        )
    if record.features == "cosine":
        raise UserError(
            f"attention: cosine has a feature beside the {size} of a head, and positions turn pairs of them; take "
            "other features, or rotates=inputs"
        )
    counts = {"elu": size, "taylor": math.comb(size + record.order, record.order)}
    return counts[record.features]
