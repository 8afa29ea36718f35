"""Relative positions that act inside attention: NEZHA's fixed table, T5's learned bias and ALiBi's slopes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.nn.functional.positions import alibi_slopes, relative_buckets, sinusoidal

_MOST_CODES = 2**24


class RelativePositions(nn.Module, ABC):
    """What the distance key − query adds to logits, and to the values that a query sees.

    相对位置：加在注意力 logits 与（可选）值上的项。

    Distances are int64 [B or 1, Q, K], in tokens. Source of each kind: its own docstring.
    """

    @abstractmethod
    def logits(self, query: Tensor, distance: Tensor) -> Tensor:
        """Added to the logits of scaled queries [B, H, Q, D]: broadcastable to [B, H, Q, K]."""

    def values(self, weights: Tensor, distance: Tensor) -> Tensor | None:
        """Added to the mixed values: [B, H, Q, D] from weights [B, H, Q, K], or None."""
        return None


class SinusoidalRelative(RelativePositions):
    """NEZHA: logits q·r(d) and values Σ_j a_ij r(d), r the sinusoidal code of the distance clipped to ±limit.

    NEZHA 的相对位置：固定的正弦表同时加在键与值上。

    Each query meets the 2·limit + 1 codes once and picks by distance; no [Q, K, D] is made. Raises UserError for a
    table of more than 2²⁴ numbers.
    Source: Wei et al. 2019, arXiv 1909.00204; bert4keras (half width 64, interleaved table).
    """

    table: Tensor

    def __init__(self, size: int, limit: int) -> None:
        super().__init__()
        self.limit = limit
        if (2 * limit + 1) * size > _MOST_CODES:
            raise UserError(
                f"config: relative_distance {limit} with {size} channels a head makes a table of more than "
                f"{_MOST_CODES} numbers; lower one of them"
            )
        with torch.device("cpu"):
            table = sinusoidal(torch.arange(2 * limit + 1), size, dtype=torch.float64)
        self._table = table
        self._made: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def _codes(self, like: Tensor) -> Tensor:
        """The table in the dtype and on the device of a tensor: made once for each."""
        key = (like.dtype, like.device)
        if key not in self._made:
            with torch.inference_mode(False):
                self._made[key] = self._table.to(device=like.device, dtype=like.dtype)
        return self._made[key]

    def _places(self, distance: Tensor) -> Tensor:
        return (distance.clamp(-self.limit, self.limit) + self.limit)[:, None]

    def logits(self, query: Tensor, distance: Tensor) -> Tensor:
        """q·r(d): [B, H, Q, K]."""
        met = query @ self._codes(query).T
        places = self._places(distance)
        return met.gather(-1, places.expand(*met.shape[:-1], places.shape[-1]))

    def values(self, weights: Tensor, distance: Tensor) -> Tensor:
        """Σ_j a_ij r(d_ij): [B, H, Q, D]."""
        codes = self._codes(weights)
        sums = weights.new_zeros(*weights.shape[:-1], len(codes))
        sums = sums.scatter_add(-1, self._places(distance).expand_as(weights), weights)
        return sums @ codes


class LogitBias(RelativePositions):
    """Relative positions that know the distance alone: the same for every query and layer, and nothing on values.

    只依赖距离、只加在 logits 上的相对位置。
    """


class AlibiBias(LogitBias):
    """ALiBi: −m_h |distance| on the logits, with a fixed slope for each head.

    ALiBi：logits 减去与距离成正比的量，每个头斜率固定。

    Where a token sees to the left alone, equal to Bloom's and MPT's up to a constant for each query. It has no
    parameters and no longest distance. Source: Press et al. 2021, arXiv 2108.12409.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self._slopes = alibi_slopes(heads)
        self._made: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def logits(self, query: Tensor, distance: Tensor) -> Tensor:
        """[B or 1, H, Q, K]."""
        wide = torch.promote_types(query.dtype, torch.float32)
        key = (wide, query.device)
        if key not in self._made:
            with torch.inference_mode(False):
                self._made[key] = torch.tensor(self._slopes, dtype=wide, device=query.device)
        return (distance.abs()[:, None] * -self._made[key][:, None, None]).to(query.dtype)


class BucketedBias(LogitBias):
    """T5: a learned number for each bucket of distances and each head, added to logits; one table for all layers.

    T5 的相对位置偏置：按距离分桶，每个头一个可学习的数，各层共用。

    Raises UserError for a longest distance that is not beyond the buckets of one distance each.
    Source: Raffel et al. 2019, arXiv 1910.10683.
    """

    def __init__(self, config: ModelConfig, bidirectional: bool) -> None:
        super().__init__()
        exact = config.relative_buckets // (4 if bidirectional else 2)
        if config.relative_distance <= exact:
            raise UserError(
                f"config: relative_distance must be above {exact}, since of {config.relative_buckets} buckets {exact} "
                f"hold one distance each; got {config.relative_distance}"
            )
        self.bias = nn.Embedding(config.relative_buckets, config.attention_heads)
        self.limit, self.bidirectional = config.relative_distance, bidirectional

    def logits(self, query: Tensor, distance: Tensor) -> Tensor:
        """[B or 1, H, Q, K]."""
        buckets = relative_buckets(distance, self.bias.num_embeddings, self.limit, self.bidirectional)
        biases: Tensor = self.bias(buckets)
        return biases.permute(0, 3, 1, 2).to(query.dtype)


def relative_of(config: ModelConfig, bidirectional: bool) -> RelativePositions | None:
    """The relative positions that a config asks for, shared by all layers of a stack; None where there are none.

    按配置建立相对位置模块。

    Raises UserError for codes that would be added to keys and values of different sizes.
    """
    if config.position == "relative_sinusoidal":
        if config.key_size != config.head_size:
            raise UserError(
                f"attention: relative_sinusoidal adds one code to keys and values, and keys of {config.key_size} "
                f"channels go with values of {config.head_size}: leave attention_key_size out, or take another position"
            )
        return SinusoidalRelative(config.key_size, config.relative_distance)
    if config.position == "relative_buckets":
        return BucketedBias(config, bidirectional)
    if config.position == "alibi":
        return AlibiBias(config.attention_heads)
    return None
