"""Gated dilated convolution over packed rows: DGCNN's layer.

Source: kexue.fm/archives/5409 and 6906.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.nn.layers.dropout import Dropout


class GatedConvolution(nn.Module):
    """y = x ⊙ (1 − σ(g)) + u ⊙ σ(g), with u and g from one dilated convolution of x.

    门控膨胀卷积：门控决定保留输入还是采用卷积结果。

    u_i and g_i = b + Σ_t W_t x_{i + r(t − (k − 1)/2)} over the taps inside the row: packed rows never see each other,
    and what padding would hold counts as 0. Dropout acts on g alone. Where input and output sizes differ, x is mapped
    without a bias first. Shapes: [N, C] to [N, C']. Raises UserError for an even kernel, which has no middle, and for
    sizes below 1. Source: kexue.fm/archives/5409 and 6906.
    """

    def __init__(
        self,
        size: int,
        out_size: int | None = None,
        *,
        kernel: int = 3,
        dilation: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        out_size = size if out_size is None else out_size
        if min(size, out_size, kernel, dilation) < 1 or kernel % 2 == 0:
            raise UserError(
                "gated convolution: expected sizes and a dilation of at least 1 and an odd kernel, got sizes "
                f"{size} and {out_size}, kernel {kernel}, dilation {dilation}"
            )
        self.offsets = tuple(dilation * (tap - kernel // 2) for tap in range(kernel))
        self.convolution = nn.Linear(kernel * size, 2 * out_size)
        self.mapping = nn.Identity() if size == out_size else nn.Linear(size, out_size, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """[N, C] to [N, C']."""
        taps = [shifted(hidden, layout, offset) for offset in self.offsets]
        update, gate = self.convolution(torch.cat(taps, dim=-1)).chunk(2, dim=-1)
        opened, kept = torch.sigmoid(self.dropout(gate)), self.mapping(hidden)
        found: Tensor = kept + (update - kept) * opened
        return found


class GatedConvolutions(nn.Module):
    """Gated convolutions one upon the other, one for each dilation; DGCNN reads questions by 1, 2, 1.

    若干门控膨胀卷积的堆叠。

    An output sees (kernel − 1)/2 · Σ dilations tokens to either side. Shapes: [N, C] to [N, C].
    """

    def __init__(
        self,
        size: int,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 1),
        *,
        kernel: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [GatedConvolution(size, kernel=kernel, dilation=rate, dropout=dropout) for rate in dilations]
        )

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """[N, C] to [N, C]."""
        for layer in self.layers:
            hidden = layer(hidden, layout)
        return hidden


def shifted(hidden: Tensor, layout: Layout, offset: int) -> Tensor:
    """What stands `offset` tokens further on in the same row, 0 beyond its ends: [N, C] to [N, C].

    同一行内偏移若干位置的词元；越界为零。
    """
    if not offset:
        return hidden
    place = layout.index_of_token + offset
    lengths = torch.tensor(layout.lengths, dtype=torch.int64, device=place.device)[layout.row_of_token]
    inside = (place >= 0) & (place < lengths)
    source = torch.arange(layout.total, device=place.device) + offset
    moved = hidden[source.where(inside, 0)] if layout.total else hidden
    return moved.masked_fill(~inside[:, None], 0.0)
