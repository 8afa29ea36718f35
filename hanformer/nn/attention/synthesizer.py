"""Synthesizer: logits that are written instead of compared, alone or beside those of queries and keys.

Source: Tay et al. 2020, arXiv 2005.00743; kexue.fm/archives/7430.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import Synthesizer
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.attention.state import DecodingState, state_as
from hanformer.nn.functional.attend import Normaliser
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.plans import Piece
from hanformer.nn.functional.visibility import Rule, Visibility


class Written(nn.Module, ABC):
    """One way to write logits: features of a token, and from them a logit for each of the first places of its row.

    一种“合成”注意力 logits 的方式。

    H heads, N places. `read` [T, C] to [T, H, F], F = `features`; `write` [T, H, F] and positions [T] to
    [T, H, width].
    """

    features = 0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.places = config.attention_heads, config.max_positions

    def read(self, hidden: Tensor) -> Tensor:
        """[T, C] to [T, H, F]; nothing where the logits know the position alone."""
        return hidden.new_zeros(len(hidden), self.heads, 0)

    @abstractmethod
    def write(self, features: Tensor, positions: Tensor, width: int) -> Tensor:
        """[T, H, F] to [T, H, width]."""


class Columns(nn.Module):
    """relu(x W₁ + b₁) W₂ + b₂ for each head, with W₂ kept as one vector for each column.

    两层感知机，每列一个向量。 Shapes: `read` [T, C] to [T, H, D]; `write` [T, H, D] to [T, H, width].
    """

    def __init__(self, config: ModelConfig, count: int) -> None:
        super().__init__()
        self.heads, biased = config.attention_heads, config.biases != "none"
        self.first = nn.Linear(config.hidden_size, self.heads * config.key_size, bias=biased)
        self.second = nn.Embedding(count, self.heads * config.key_size)
        self.second_bias = nn.Parameter(torch.zeros(self.heads * count)) if biased else None

    def read(self, hidden: Tensor) -> Tensor:
        """relu(x W₁ + b₁)."""
        return functional.relu(self.first(hidden)).unflatten(-1, (self.heads, -1))

    def write(self, features: Tensor, width: int) -> Tensor:
        """The first columns."""
        vectors = self.second.weight.unflatten(-1, (self.heads, -1))[:width]
        logits = torch.einsum("thd,whd->thw", features, vectors)
        if self.second_bias is None:
            return logits
        return logits + self.second_bias.view(self.heads, -1)[:, :width]


class Dense(Written):
    """B_i = relu(x_i W₁ + b₁) W₂ + b₂: row i knows token i alone. 由词元自身给出一行 logits。"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.columns = Columns(config, self.places)
        self.features = config.key_size

    def read(self, hidden: Tensor) -> Tensor:
        return self.columns.read(hidden)

    def write(self, features: Tensor, positions: Tensor, width: int) -> Tensor:
        return self.columns.write(features, width)


class FactorisedDense(Written):
    """B_ij = A_i[j mod a] · C_i[⌊j/a⌋] with a·b = N: each pair of the two factors stands in one column.

    分解的 Dense：两个因子逐列相乘，一个平铺、一个逐项重复，每一对恰好出现一次。

    The paper tiles both factors; that meets every pair only where a and b have no common divisor.
    Raises UserError where a does not divide N.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        inner = _options(config).factor or _near_root(self.places)
        if self.places % inner:
            raise UserError(
                f"attention: synthesizer: factor {inner} must divide max_positions {self.places}; "
                f"take {_near_root(self.places)}"
            )
        self.inner, self.outer = Columns(config, inner), Columns(config, self.places // inner)
        self.features = 2 * config.key_size

    def read(self, hidden: Tensor) -> Tensor:
        return torch.cat([self.inner.read(hidden), self.outer.read(hidden)], dim=-1)

    def write(self, features: Tensor, positions: Tensor, width: int) -> Tensor:
        inner, outer = features.chunk(2, dim=-1)
        tiled = self.inner.write(inner, self.inner.second.num_embeddings)[..., None, :]
        repeated = self.outer.write(outer, -(-width // tiled.shape[-1]))[..., :, None]
        return (repeated * tiled).flatten(-2)[..., :width]


class Random(Written):
    """B = R, a learned table of N × N for each head. 可学习的位置表。"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.table = nn.Embedding(self.places, self.heads * self.places)

    def write(self, features: Tensor, positions: Tensor, width: int) -> Tensor:
        return self.table.weight.unflatten(-1, (self.heads, -1))[..., :width][positions]


class FixedRandom(Written):
    """B = R, drawn once from a normal of deviation 1 and never learned; it is saved with the model.

    固定的随机位置表：不参与训练，随模型保存。

    Kept with the deviation that all initial weights have, and multiplied up where it is used.
    """

    table: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.scale = 1 / config.initial_deviation
        drawn = torch.empty(self.places, self.heads * self.places)
        nn.init.normal_(drawn, std=config.initial_deviation)
        self.register_buffer("table", drawn)

    def write(self, features: Tensor, positions: Tensor, width: int) -> Tensor:
        return self.table.unflatten(-1, (self.heads, -1))[..., :width][positions] * self.scale


class FactorisedRandom(Written):
    """B = R₁ R₂ᵀ with learned R of N × k for each head. 低秩分解的位置表。"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        rank = _options(config).rank
        self.left = nn.Embedding(self.places, self.heads * rank)
        self.right = nn.Embedding(self.places, self.heads * rank)

    def write(self, features: Tensor, positions: Tensor, width: int) -> Tensor:
        left, right = (table.weight.unflatten(-1, (self.heads, -1)) for table in (self.left, self.right))
        return torch.einsum("thk,whk->thw", left[positions], right[:width])


KINDS: dict[str, type[Written]] = {
    "dense": Dense,
    "random": Random,
    "fixed_random": FixedRandom,
    "factorised_dense": FactorisedDense,
    "factorised_random": FactorisedRandom,
}


class SynthesizerState(KeyValueCache):
    """Values of all tokens (and keys, beside ordinary attention); logits are written for the announced tokens.

    Synthesizer 的解码状态：保存值（与普通注意力并用时还有键）。
    """

    @property
    def reach(self) -> int:
        """A length that no row exceeds with the announced tokens, known without asking a GPU."""
        return self._prompt_positions.shape[1] + self.length + self._fresh

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        normalise: Normaliser | None = None,
    ) -> Tensor:
        """As the base; `query` [R * T, H, D + N] carries the written logits behind what is compared."""
        compared, written = query.tensor_split([key.shape[-1]], dim=-1)
        places = torch.cat([self._prompt_positions[self.prompt_of_row], self._own_positions], dim=1)
        written = written.unflatten(0, (self.rows, self._fresh)).transpose(1, 2)
        self._written = _picked(written, places)
        return super().attend(layer, compared, key, value, scale, normalise)

    def _add_below(self, logits: Tensor, crossing: bool) -> Tensor:
        return super()._add_below(logits if crossing else logits + self._written, crossing)


class SynthesizerAttention(SoftmaxAttention):
    """softmax(B) v, B written from tokens and positions: alone, mixed, or added to q kᵀ / √D.

    合成注意力：logits 由词元或位置直接给出，可混合，也可与普通注意力相加。

    B = Σ_i α_i B_i over the kinds, α = softmax of learned numbers. With `dot_product="plus"` the logits are
    q kᵀ/√D + B, with "plus_alpha" (1 − σ(a)) q kᵀ/√D + σ(a) B, a learned from 0. The maximum length N is
    `max_positions`. Shapes: [T, C] to [T, C]. Raises UserError for longer rows, and for positions that act on queries
    and keys where there are none. Source: Tay et al. 2020, arXiv 2005.00743; kexue.fm/archives/7430.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        options = _options(config)
        self.compares, self.places = options.dot_product != "none", config.max_positions
        if not self.compares:
            _refuse_positions(config)
            self.rotate = None
            del self.query, self.key
        self.written = nn.ModuleList([KINDS[kind](config) for kind in options.kinds_asked])
        several = len(self.written) > 1
        # One-dimensional biases start at zero, wherever a model comes from.
        self.mixture_bias = nn.Parameter(torch.zeros(len(self.written))) if several else None
        self.alpha_bias = nn.Parameter(torch.zeros(1)) if options.dot_product == "plus_alpha" else None

    def state_kind(self, rule: Rule) -> type[DecodingState]:
        """What decoding keeps: values, and keys where there are any."""
        return SynthesizerState

    def joinable(self) -> tuple[nn.Linear, ...]:
        """None: queries carry written logits."""
        return ()

    def project_query(self, hidden: Tensor) -> Tensor:
        """[T, C] to [T, H, D + F]: queries, and behind them the features of the written logits."""
        features = [part.read(hidden) for part in self._parts()]
        return torch.cat([super().project_query(hidden), *features] if self.compares else features, dim=-1)

    def project_memory(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """[T, C] to keys (of no channels where nothing is compared) and values."""
        if self.compares:
            return super().project_memory(hidden)
        value: Tensor = self.value(hidden).unflatten(-1, (-1, self.head_size))
        return value[..., :0], value

    def place(self, query: Tensor, key: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Turns what is compared, and writes the logits: queries become [T, H, D + width]."""
        self._check(layout)
        compared, features = query.tensor_split([key.shape[-1]], dim=-1)
        compared, key = super().place(compared, key, layout)
        counted = layout.counts_from_zero
        width = max(layout.lengths, default=0) if counted else self.places
        written = self._write(features, layout.positions, width)
        if self.alpha_bias is not None:
            share = torch.sigmoid(self.alpha_bias)
            compared, written = (1 - share) * compared, share * written
        return torch.cat([compared, written], dim=-1), key

    def _write(self, features: Tensor, positions: Tensor, width: int) -> Tensor:
        pieces = features.split([part.features for part in self._parts()], dim=-1)
        rows = [part.write(own, positions, width) for part, own in zip(self._parts(), pieces, strict=True)]
        if self.mixture_bias is None:
            return rows[0]
        shares = torch.softmax(self.mixture_bias, 0)
        return torch.stack([share * row for share, row in zip(shares, rows, strict=True)]).sum(0)

    def _parts(self) -> list[Written]:
        return [part for part in self.written if isinstance(part, Written)]

    def _check(self, layout: Layout) -> None:
        """Refuses rows longer than the tables; given positions are looked at where that waits for no GPU."""
        longest = max(layout.lengths, default=0)
        if layout.positions.device.type == "cpu" and layout.total:
            longest = max(longest, int(layout.positions.max()) + 1)
            if int(layout.positions.min()) < 0:
                raise UserError(f"positions must be 0 or more, got {int(layout.positions.min())}")
        self._refuse_beyond(longest)

    def _refuse_beyond(self, longest: int) -> None:
        if longest > self.places:
            raise UserError(
                f"attention: this synthesizer was built for {self.places} positions (max_positions), got {longest}; "
                "shorten the text, or build it longer"
            )

    def mix(self, query: Tensor, key: Tensor, value: Tensor, batch: Pass) -> Tensor:
        """Queries [T, H, D + width], keys [T, G, D] and values [T, G, D'] to [T, H, D']."""
        compared, written = query.tensor_split([key.shape[-1]], dim=-1)
        return batch.mix(
            compared,
            key,
            value,
            self.scale,
            self.dropout if self.training else 0.0,
            added=partial(_of_piece, written, batch.visibility),
        )

    def extend(self, hidden: Tensor, cache: DecodingState, layer: int) -> Tensor:
        """Attention of appended tokens [R * T, C] over the prompt and what was appended before them."""
        if state_as(cache, SynthesizerState).reach > self.places:
            self._refuse_beyond(int(cache.layout.positions.max()) + 1)
        return super().extend(hidden, cache, layer)


def _of_piece(written: Tensor, visibility: Visibility, piece: Piece) -> list[Tensor]:
    """The written logits of each rectangle, one column for each key: [B, H, Q, K]."""
    rows = zip(piece.plans, piece.spread(written), strict=True)
    if visibility.key.counts_from_zero:
        return [own[..., : plan.key.length] for plan, own in rows]
    return [_picked(own, plan.key.fill(visibility.key.positions)) for plan, own in rows]


def _picked(written: Tensor, places: Tensor) -> Tensor:
    """The columns [B, H, Q, K] of [B, H, Q, N] that stand for keys at the places [B, K]."""
    index = places[:, None, None, :].expand(*written.shape[:-1], -1)
    return written.gather(-1, index)


def _options(config: ModelConfig) -> Synthesizer:
    if not isinstance(config.attention, Synthesizer):
        raise UserError(f"attention: expected a Synthesizer, got {config.attention!r}")
    return config.attention


def _near_root(count: int) -> int:
    """The largest divisor that is not above the square root."""
    return next(divisor for divisor in range(int(count**0.5), 0, -1) if count % divisor == 0)


#: What acts on queries or keys, and has nothing to act on where logits are written alone.
_NEED_QUERIES = ("rotary", "rotary_halves", "relative_sinusoidal")


def _refuse_positions(config: ModelConfig) -> None:
    if config.position in _NEED_QUERIES:
        raise UserError(
            f"attention: a synthesizer alone has no queries and keys for the position {config.position!r}; "
            'take another position, or dot_product="plus"'
        )
