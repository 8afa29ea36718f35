"""Embeddings of tokens, segments and positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import sinusoidal
from hanformer.nn.layers.dropout import Dropout


class Embeddings(nn.Module):
    """Token, segment and position embeddings, summed; normalised in post-norm models; then dropout.

    词元、段与位置嵌入之和；后归一化模型再做层归一化；最后 dropout。

    Additive positions enter before the norm. Rotary positions act in attention and add nothing here. Sinusoidal
    ones have mean square 1/2, beside which initial weights of deviation 0.02 would be nothing: what was learned
    is multiplied by √C first. Source: Vaswani et al. 2017, section 3.4; bert4keras does not multiply.
    Shapes: ids [N] to [N, C]. Raises UserError for ids, segments or positions out of range.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)
        self.segment = (
            nn.Embedding(config.segment_vocab_size, config.hidden_size) if config.segment_vocab_size else None
        )
        self.position = (
            nn.Embedding(config.max_positions, config.hidden_size) if config.position == "learned" else None
        )
        self.norm = (
            nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon) if config.norm_place == "post" else None
        )
        self.dropout = Dropout(config.dropout)

    def forward(self, token_ids: Tensor, layout: Layout) -> Tensor:
        """[N] ids to [N, C]."""
        self.check(token_ids, layout)
        embedded = self.token(token_ids)
        if self.segment is not None:
            embedded = embedded + self.segment(layout.segments)
        if self.position is not None:
            embedded = embedded + self.position(layout.positions)
        if self.config.position == "sinusoidal":
            size = self.config.hidden_size
            embedded = embedded * size**0.5 + sinusoidal(layout.positions, size, dtype=embedded.dtype)
        if self.norm is not None:
            embedded = self.norm(embedded)
        return self.dropout(embedded)

    def check(self, token_ids: Tensor, layout: Layout) -> None:
        """Refuses what the tables do not hold; on a GPU this is left to the kernel, to keep the queue full."""
        if token_ids.device.type != "cpu" or not token_ids.numel():
            return
        for name, ids, size in (
            ("token ids", token_ids, self.config.vocab_size),
            ("segment ids", layout.segments, self.config.segment_vocab_size or None),
            ("positions", layout.positions, self.config.max_positions if self.position is not None else None),
        ):
            if size is None:
                continue
            low, high = torch.aminmax(ids)
            if low < 0 or high >= size:
                raise UserError(
                    f"{name} must lie between 0 and {size - 1}; got {int(low)} to {int(high)}"
                    + ("; shorten the text" if name == "positions" else "")
                )
