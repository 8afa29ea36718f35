"""Packed batches of windows, with what each head is to learn of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.nn.functional.packing import Layout
from hanformer.nn.layers.global_pointer import Span
from hanformer.tasks.tag.cutting import CutText, Window
from hanformer.tasks.tag.labels import LabelSet, TokenSpan


@dataclass(frozen=True, slots=True)
class Example:
    """A window with the labels of the tokens that it owns, and the spans that begin in them.

    训练样本：窗口、所辖词元的标签，以及起点在其中的片段。

    Spans count from the first token of the text in the window; those that end beyond the window are left out.
    """

    window: Window
    labels: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, eq=False)
class Part:
    """Some tokens of a packed batch, row by row: their places [M], and their own layout. 批次中的一部分词元。"""

    places: Tensor
    layout: Layout

    def of(self, hidden: Tensor) -> Tensor:
        """[N, C] to [M, C]."""
        return hidden.index_select(0, self.places)

    def to(self, device: torch.device) -> Part:
        """The same on another device."""
        return Part(self.places.to(device), self.layout.to(device))


@dataclass(frozen=True, eq=False)
class TagBatch:
    """Packed windows.

    打包批次。

    `token_ids` [N]; `owned` and `inner` are the tokens that windows answer for, and all that are text; `begins` bool
    [rows, T] says which inner tokens (padded on the right) are owned; `labels` [M] of owned tokens; `spans` by row.
    """

    token_ids: Tensor
    layout: Layout
    owned: Part
    inner: Part
    begins: Tensor
    labels: Tensor
    spans: Sequence[Sequence[Span]]

    def to(self, device: torch.device) -> TagBatch:
        """The same batch on another device."""
        return TagBatch(
            self.token_ids.to(device),
            self.layout.to(device),
            self.owned.to(device),
            self.inner.to(device),
            self.begins.to(device),
            self.labels.to(device),
            self.spans,
        )


def examples_of(cut: CutText, spans: Sequence[TokenSpan], labels: LabelSet) -> list[Example]:
    """The windows of a text with what is to be learned of them. 由切好的文本与标注得到样本。"""
    named = labels.encode(spans, len(cut.offsets))
    return [_example(window, named, spans) for window in cut.windows]


def _example(window: Window, labels: Sequence[int], spans: Sequence[TokenSpan]) -> Example:
    begin, end = window.begin, window.begin + window.inner[1] - window.inner[0]
    kept = (
        Span(kind, start - begin, stop - 1 - begin)
        for kind, start, stop in spans
        if window.owned[0] <= start < window.owned[1] and stop <= end
    )
    return Example(window, tuple(labels[slice(*window.owned)]), tuple(kept))


def pack(examples: Sequence[Example]) -> TagBatch:
    """A packed batch. 组成打包批次。"""
    windows = [example.window for example in examples]
    layout = Layout.of([len(window.ids) for window in windows])
    inner = _part(layout, [window.inner for window in windows])
    owned = [tuple(place - window.begin for place in window.owned) for window in windows]
    longest = max(inner.layout.lengths)
    begins = torch.zeros(len(windows), longest, dtype=torch.bool)
    for row, (start, stop) in enumerate(owned):
        begins[row, start:stop] = True
    starts = [window.inner[0] for window in windows]
    ranges = [(first + start, first + stop) for first, (start, stop) in zip(starts, owned, strict=True)]
    return TagBatch(
        torch.tensor([number for window in windows for number in window.ids]),
        layout,
        _part(layout, ranges),
        inner,
        begins,
        torch.tensor([label for example in examples for label in example.labels], dtype=torch.int64),
        [example.spans for example in examples],
    )


def _part(layout: Layout, ranges: Sequence[tuple[int, int]]) -> Part:
    places = [
        torch.arange(offset + start, offset + stop)
        for offset, (start, stop) in zip(layout.offsets, ranges, strict=False)
    ]
    return Part(torch.cat(places), Layout.of([stop - start for start, stop in ranges]))
