"""Attention pooling: one vector for each row, weighed by its tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hanformer.nn.functional.attend import softmax
from hanformer.nn.functional.packing import Layout, padded_right


class AttentionPooling(nn.Module):
    """Σ_i α_i x_i over a row, α = softmax over it of v · tanh(W x_i); W and v have no biases.

    注意力池化：以词元打分的 softmax 加权求和。

    A row without tokens gives zeros. Shapes: [N, C] to [B, C]. Source: kexue.fm/archives/6906.
    """

    def __init__(self, size: int, inner_size: int | None = None) -> None:
        super().__init__()
        self.inner = nn.Linear(size, inner_size or size, bias=False)
        self.score = nn.Linear(inner_size or size, 1, bias=False)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """[N, C] to [B, C]."""
        pooled = hidden.new_zeros(layout.rows, hidden.shape[-1])
        return pooled.index_add(0, layout.row_of_token, self.weights(hidden, layout)[:, None] * hidden)

    def weights(self, hidden: Tensor, layout: Layout) -> Tensor:
        """α: [N, C] to [N]; those of a row sum to 1."""
        scores = self.score(torch.tanh(self.inner(hidden)))[:, 0]
        packing = padded_right(layout)
        real = packing.unpack(torch.ones_like(scores, dtype=torch.bool))
        return packing.pack(softmax(packing.unpack(scores).masked_fill(~real, float("-inf"))))
