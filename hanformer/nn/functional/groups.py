"""Rectangles of tokens: how packed rows of unequal length meet kernels that want equal ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hanformer.nn.functional.packing import Layout, padded_right


@dataclass(frozen=True, eq=False)
class Group:
    """Neighbouring rows that attention handles as one rectangular batch.

    注意力一次处理的相邻若干行。

    `tokens` is the slice of packed tokens they own; `places` [tokens] their places in the flattened rectangle,
    or None where all rows have the same length and the slice is the rectangle.
    """

    rows: int
    length: int
    tokens: slice
    places: Tensor | None

    def gather(self, own: Tensor) -> Tensor:
        """Its own [tokens, H, D] to [rows, H, length, D]; a view where the rows are equally long."""
        if self.places is not None:
            own = own.new_zeros(self.rows * self.length, *own.shape[1:]).index_copy(0, self.places, own)
        return own.unflatten(0, (self.rows, self.length)).transpose(1, 2)

    def scatter(self, padded: Tensor) -> Tensor:
        """[rows, H, length, D] back to [tokens, H, D]."""
        flat = padded.transpose(1, 2).flatten(0, 1)
        return flat if self.places is None else flat.index_select(0, self.places)

    def fill(self, values: Tensor) -> Tensor:
        """[N] to [rows, length], zeros where there is no token."""
        own = values[self.tokens]
        if self.places is not None:
            own = own.new_zeros(self.rows * self.length).index_copy(0, self.places, own)
        return own.unflatten(0, (self.rows, self.length))

    def real(self) -> Tensor:
        """Bool [rows, length]: where the rectangle holds tokens."""
        if self.places is None:
            return torch.ones(self.rows, self.length, dtype=torch.bool)
        real = torch.zeros(self.rows * self.length, dtype=torch.bool, device=self.places.device)
        return real.index_fill(0, self.places, True).unflatten(0, (self.rows, self.length))


@dataclass(frozen=True, eq=False)
class Windows:
    """What blocks of a line of tokens look at: windows of `length`, one every `step` tokens, that overlap.

    按步长滑动、互相重叠的键窗口。

    Window r begins at token r · step + shift of the slice `tokens`, and holds zeros beyond the ends of the slice. The
    windows are views of one copy.
    """

    rows: int
    length: int
    tokens: slice
    step: int
    shift: int

    def gather(self, own: Tensor) -> Tensor:
        """Its own [tokens, H, D] to [rows, H, length, D]."""
        reached = self._reached(own)
        if not reached.requires_grad:
            return _windows(reached, self.length, self.step)
        windows: Tensor = _Windows.apply(reached, self.length, self.step)
        return windows

    def fill(self, values: Tensor) -> Tensor:
        """[N] to [rows, length], zeros where there is no token."""
        return self._reached(values[self.tokens]).unfold(0, self.length, self.step)

    def real(self) -> Tensor:
        """Bool [rows, length]: where the windows hold tokens."""
        return self.fill(torch.ones(self.tokens.stop, dtype=torch.uint8)).bool()

    def _reached(self, own: Tensor) -> Tensor:
        """From the first token of the first window to the last of the last, zeros where the slice has none."""
        needed = (self.rows - 1) * self.step + self.length
        before = min(max(-self.shift, 0), needed)
        first = max(self.shift, 0)
        looked_at = own[first : first + needed - before]
        margins = (before, needed - before - len(looked_at))
        return functional.pad(looked_at, (0, 0) * (own.dim() - 1) + margins)


def _windows(line: Tensor, length: int, step: int) -> Tensor:
    """[tokens, H, D] to [rows, H, length, D], a window every `step` tokens: a view."""
    return line.unfold(0, length, step).transpose(-1, -2)


class _Windows(torch.autograd.Function):
    """`_windows`, whose way back adds a stretch of all windows at once; torch's own adds number by number."""

    @staticmethod
    def forward(line: Tensor, length: int, step: int) -> Tensor:
        return _windows(line, length, step)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
        line, length, step = inputs
        context.sizes = (len(line), length, step)

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return _Overlapped.apply(slope, *context.sizes), None, None


class _Overlapped(torch.autograd.Function):
    """The sum of windows [rows, H, length, D] where they overlap: [tokens, H, D], and `_windows` the way back."""

    @staticmethod
    def forward(windows: Tensor, tokens: int, length: int, step: int) -> Tensor:
        wide = torch.promote_types(windows.dtype, torch.float32)
        line = windows.new_zeros(tokens, windows.shape[1], windows.shape[3], dtype=wide)
        for start in range(0, length, step):
            width = min(step, length - start)
            # Stretches of one window after the other do not overlap: each number is added to once.
            _windows(line[start:], width, step)[: len(windows)].add_(windows[:, :, start : start + width])
        return line.to(windows.dtype)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor, int, int, int], output: Tensor) -> None:
        context.sizes = inputs[2:]

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        return _windows(slope, *context.sizes), None, None, None


#: Rows share a rectangle as long as its padding costs less than this share of its tokens.
PADDING_TOLERANCE = 0.25


def cut_rows(lengths: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Cuts rows into runs of neighbours, for all given tuples of lengths alike, so that padding stays small.

    把相邻的行切成组，使填充保持很少。

    A run is closed when the next row would push the share of padding above PADDING_TOLERANCE in any tuple.
    """
    runs: list[tuple[int, int]] = []
    count, start = len(lengths[0]), 0
    longest, real = [0] * len(lengths), [0] * len(lengths)
    for row in range(count):
        longer = [max(peak, sizes[row]) for peak, sizes in zip(longest, lengths, strict=True)]
        filled = [sum_ + sizes[row] for sum_, sizes in zip(real, lengths, strict=True)]
        width = row - start + 1
        wasteful = any(
            full < (1 - PADDING_TOLERANCE) * peak * width for peak, full in zip(longer, filled, strict=True)
        )
        if wasteful and row > start:
            runs.append((start, row))
            start, longer, filled = row, [sizes[row] for sizes in lengths], [sizes[row] for sizes in lengths]
        longest, real = longer, filled
    return [*runs, (start, count)] if count else runs


def group_of(layout: Layout, first: int, last: int) -> Group:
    """The rows from `first` to before `last` as one rectangle. 若干行组成的矩形。"""
    lengths = layout.lengths[first:last]
    longest = max(lengths)
    tokens = slice(layout.offsets[first], layout.offsets[last])
    if min(lengths) == longest:
        return Group(last - first, longest, tokens, None)
    places = (layout.row_of_token[tokens] - first) * longest + layout.index_of_token[tokens]
    return Group(last - first, longest, tokens, places)


def rectangle(layout: Layout) -> Group:
    """All rows of a layout as one rectangle, padded on the right. 整个批次作为一个右填充矩形。"""
    padded = padded_right(layout)
    return Group(*padded.shape, slice(0, layout.total), padded.places)
