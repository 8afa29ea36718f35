"""Packed batches: rows of unequal length laid end to end, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.functional.positions import BASE, rotary_table


@dataclass(frozen=True, eq=False)
class Layout:
    """What the rows of a packed batch are: where each begins and ends, and what its tokens are called.

    打包批次的布局：每行的长度、位置编号和段编号。

    Rows stand end to end on one axis of N = sum(lengths) tokens. `lengths` are host integers, so that no
    decision about shapes waits for the device; `positions` and `segments` are int64 tensors of shape [N].
    A row of length 0 is allowed.
    """

    lengths: tuple[int, ...]
    positions: Tensor
    segments: Tensor

    @classmethod
    def of(
        cls,
        lengths: Sequence[int],
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> Layout:
        """Builds a layout; positions count from 0 in each row and segments are 0 unless given.

        由各行长度建立布局；默认位置从零计数，段编号为零。

        Raises UserError if `segments` or `positions` do not have one entry a token.
        """
        lengths = tuple(int(length) for length in lengths)
        total = sum(lengths)
        for name, given in (("segments", segments), ("positions", positions)):
            if given is not None and given.shape != (total,):
                raise UserError(
                    f"{name}: expected shape [{total}], one entry a token, got {list(given.shape)}"
                )
        if segments is None:
            segments = torch.zeros(total, dtype=torch.int64, device=device)
        if positions is None:
            counts = torch.cat([torch.arange(length) for length in lengths] or [torch.arange(0)])
            positions = counts.to(segments.device if device is None else device)
        return cls(lengths, positions, segments)

    @property
    def rows(self) -> int:
        """The number of rows, B."""
        return len(self.lengths)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """B + 1 host integers: row b holds the tokens offsets[b] to offsets[b + 1]."""
        return (0, *accumulate(self.lengths))

    @property
    def total(self) -> int:
        """The number of real tokens, N."""
        return self.offsets[-1]

    @cached_property
    def row_of_token(self) -> Tensor:
        """The row of each token: int64 [N]."""
        lengths = torch.tensor(self.lengths, dtype=torch.int64)
        return torch.repeat_interleave(torch.arange(self.rows), lengths).to(self.positions.device)

    @cached_property
    def index_of_token(self) -> Tensor:
        """The place of each token in its row, counted from 0 whatever its position is called: int64 [N]."""
        starts = torch.tensor(self.offsets[:-1], dtype=torch.int64, device=self.positions.device)
        place = torch.arange(self.total, device=self.positions.device)
        return place - starts[self.row_of_token] if self.total else place

    @cached_property
    def counts_from_zero(self) -> bool:
        """Whether every row's positions are 0, 1, 2, ..., as they are unless someone names others."""
        return torch.equal(self.positions, self.index_of_token)

    @cached_property
    def reach_of_token(self) -> Tensor:
        """The running sum of segments in each row, which orders the tokens under the UniLM rule: int64 [N]."""
        running = torch.cumsum(self.segments, 0)
        before = torch.cat([running.new_zeros(1), running])
        starts = torch.tensor(self.offsets[:-1], dtype=torch.int64, device=running.device)
        return running - before[starts][self.row_of_token] if self.total else running

    @cached_property
    def _rotary_tables(self) -> dict[tuple[int, torch.dtype, float], Tensor]:
        return {}

    def rotary(self, size: int, dtype: torch.dtype, base: float = BASE) -> Tensor:
        """`rotary_table` of the positions, [N, 2, size / 2]: made once, it serves every layer."""
        tables, key = self._rotary_tables, (size, dtype, base)
        if key not in tables:
            # A table that was made under inference_mode could not serve a later pass with gradients.
            with torch.inference_mode(False):
                tables[key] = rotary_table(self.positions, size, base, dtype)
        return tables[key]

    def to(self, device: torch.device | str) -> Layout:
        """The same layout with its tensors on another device."""
        return Layout(self.lengths, self.positions.to(device), self.segments.to(device))


@dataclass(frozen=True, eq=False)
class Packing:
    """How a padded batch was packed: its layout and the way back.

    填充批次与打包批次之间的对应。

    `places` [N] are the indices of the real tokens in the flattened [B * L] batch.
    """

    layout: Layout
    places: Tensor
    shape: tuple[int, int]

    def pack(self, padded: Tensor) -> Tensor:
        """[B, L, ...] to [N, ...]: the real tokens alone."""
        return padded.flatten(0, 1).index_select(0, self.places)

    def unpack(self, packed: Tensor) -> Tensor:
        """[N, ...] to [B, L, ...]: padding positions hold zeros."""
        rows, length = self.shape
        flat = packed.new_zeros(rows * length, *packed.shape[1:])
        return flat.index_copy(0, self.places, packed).unflatten(0, (rows, length))


def padded_right(layout: Layout) -> Packing:
    """The way between packed tokens [N, ...] and rows [B, T, ...] that end in padding, T the longest.

    打包词元与右侧补零的各行之间的对应。
    """
    longest = max(layout.lengths, default=0)
    return Packing(layout, layout.row_of_token * longest + layout.index_of_token, (layout.rows, longest))


def find_packing(real: Tensor, segments: Tensor | None = None, positions: Tensor | None = None) -> Packing:
    """The packing of a padded batch whose real tokens are marked.

    由真实词元的标记求出打包方式。

    Shapes: `real` bool [B, L]; `segments` and `positions` int64 [B, L] or None. Padding may stand on either
    side, or between: positions count real tokens unless they are given.
    Raises UserError for a batch that is not [B, L], or companions of another shape.
    """
    if real.dim() != 2:
        raise UserError(f"expected a batch of shape [rows, length], got {list(real.shape)}")
    for name, given in (("segment_ids", segments), ("position_ids", positions)):
        if given is not None and given.shape != real.shape:
            raise UserError(f"{name}: expected shape {list(real.shape)}, got {list(given.shape)}")
    places = real.flatten().nonzero().squeeze(1)
    lengths = real.sum(1).tolist()
    layout = Layout.of(
        lengths,
        None if segments is None else segments.flatten()[places],
        None if positions is None else positions.flatten()[places],
        device=real.device,
    )
    return Packing(layout, places, (real.shape[0], real.shape[1]))
