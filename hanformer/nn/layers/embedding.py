"""Embeddings of tokens, segments and positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import hierarchical, sinusoidal
from hanformer.nn.layers.dropout import Dropout
from hanformer.nn.layers.norm import norm_of


class Embeddings(nn.Module):
    """Token, segment and position embeddings, summed; a norm and dropout; then a map to the hidden size.

    词元、段与位置嵌入之和，归一化与 dropout，再（如因子分解）映射到隐层维度。

    Additive positions enter before the norm. Rotary and relative positions act in attention and add nothing
    here. Sinusoidal ones have mean square 1/2, beside which initial weights of deviation 0.02 would be nothing:
    what was learned is multiplied by √E first. Source: Vaswani et al. 2017, section 3.4; bert4keras does not
    multiply. The map (with a bias where all layers have one) stands only where the embedding's width E differs from
    the hidden size C.
    Shapes: ids [N] to [N, C]. Raises UserError for sinusoidal positions and an odd width, and for ids, segments or
    positions out of range.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embedding_width
        if config.position == "sinusoidal" and width % 2:
            raise UserError(
                f"config: sinusoidal positions are pairs of channels, and embeddings of {width} are no pairs: take an "
                "even hidden_size (or embedding_size), or another position"
            )
        own_segments = config.segment_vocab_size and not config.shared_segment_embeddings
        self.token = nn.Embedding(config.vocab_size, width)
        self.segment = nn.Embedding(config.segment_vocab_size, width) if own_segments else None
        self.position = nn.Embedding(config.max_positions, width) if config.position == "learned" else None
        place = config.embedding_norm or ("before_dropout" if config.norm_place == "post" else "none")
        epsilon = config.embedding_norm_epsilon
        self.norm = None if place == "none" else norm_of(config, width, epsilon)
        self.norm_first = place != "after_dropout"
        self.dropout = Dropout(config.dropout)
        mapped = width != config.hidden_size
        self.mapping = nn.Linear(width, config.hidden_size, bias=config.has_biases) if mapped else None

    def forward(self, token_ids: Tensor, layout: Layout, condition: Tensor | None = None) -> Tensor:
        """[N] ids to [N, C]."""
        self.check(token_ids, layout)
        return self.look_up(token_ids, layout.segments, layout.positions, condition)

    def look_up(
        self, token_ids: Tensor, segments: Tensor, positions: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """[...] ids, segments and positions to [..., C], without a look at their range: what can be traced."""
        embedded = self.token(token_ids)
        if self.config.shared_segment_embeddings:
            embedded = embedded + self.token(segments)
        elif self.segment is not None:
            embedded = embedded + self.segment(segments)
        embedded = self._normed(self._placed(embedded, positions), condition)
        return embedded if self.mapping is None else self.mapping(embedded)

    def _placed(self, embedded: Tensor, positions: Tensor) -> Tensor:
        if self.position is not None:
            alpha = self.config.hierarchical_positions
            if alpha is None:
                return embedded + self.position(positions)
            return embedded + hierarchical(self.position.weight, positions, alpha)
        if self.config.position == "sinusoidal":
            size = self.config.embedding_width
            return embedded * size**0.5 + sinusoidal(positions, size, dtype=embedded.dtype)
        return embedded

    def _normed(self, embedded: Tensor, condition: Tensor | None) -> Tensor:
        if self.norm is None:
            return self.dropout(embedded)
        if self.norm_first:
            return self.dropout(self.norm(embedded, condition))
        normed: Tensor = self.norm(self.dropout(embedded), condition)
        return normed

    def check(self, token_ids: Tensor, layout: Layout) -> None:
        """Refuses what the tables do not hold; on a GPU this is left to the kernel, to keep the queue full."""
        if token_ids.device.type != "cpu" or not token_ids.numel():
            return
        segments = self.config.segment_vocab_size or None
        for name, ids, size in (
            ("token ids", token_ids, self.config.vocab_size),
            (
                "segment ids",
                layout.segments,
                self.config.vocab_size if self.config.shared_segment_embeddings else segments,
            ),
            ("positions", layout.positions, self._positions()),
        ):
            if size is None:
                continue
            low, high = torch.aminmax(ids)
            if low < 0 or high >= size:
                raise UserError(
                    f"{name} must lie between 0 and {size - 1}; got {int(low)} to {int(high)}"
                    + ("; shorten the text" if name == "positions" else "")
                )

    def _positions(self) -> int | None:
        """How many positions there are; None where any number will do."""
        if self.position is None:
            return None
        count = self.config.max_positions
        return count if self.config.hierarchical_positions is None else count * count
