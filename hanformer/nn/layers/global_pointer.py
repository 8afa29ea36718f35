"""GlobalPointer: a score for every span of a row and every type, all at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout, padded_right
from hanformer.nn.functional.positions import BASE, rotate


class Span(NamedTuple):
    """Tokens `start` to `end`, both included, of a type.

    片段：类型、首词元、末词元（含）。
    """

    kind: int
    start: int
    end: int


class GlobalPointer(nn.Module):
    """s_α(i, j) = (R_i q_{α,i})ᵀ (R_j k_{j,α}) / √D: type α from token i to token j, for every pair.

    全局指针：用统一的方式识别嵌套与非嵌套实体，每种类型各有一个 n×n 的打分矩阵。

    A pair with padding, and unless `triangle` is off one with j < i, has score −inf, as `zlpr` and `zlpr_sparse` expect
    of what cannot be. A span is predicted where its score is above 0. `rotary` None leaves positions out, and
    `triangle` off keeps both directions, as relations want it (GPLinker).
    Shapes: [N, C] packed to [B, kinds, T, T], T the longest row.
    Raises UserError for an odd head size with rotary positions. Source: Su et al., arXiv 2208.03054;
    kexue.fm/archives/8373.
    """

    def __init__(
        self,
        size: int,
        kinds: int,
        head_size: int = 64,
        *,
        rotary: float | None = BASE,
        triangle: bool = True,
    ) -> None:
        super().__init__()
        _check_size(head_size, rotary)
        self.kinds, self.head_size, self.rotary, self.triangle = kinds, head_size, rotary, triangle
        self.projection = nn.Linear(size, kinds * head_size * 2)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """[N, C] to [B, kinds, T, T]."""
        projected = self.projection(hidden).unflatten(-1, (self.kinds, 2, self.head_size))
        packing = padded_right(layout)
        query, key = (_placed(part, layout, self.rotary) for part in projected.unbind(-2))
        scores = torch.einsum("bihd,bjhd->bhij", packing.unpack(query), packing.unpack(key))
        return _masked(scores / math.sqrt(self.head_size), layout, self.triangle)


class EfficientGlobalPointer(nn.Module):
    """s_α(i, j) = (R_i q_i)ᵀ (R_j k_j) / √D + a_{α,i} + b_{α,j}: one score for "is a span", two numbers for its type.

    高效全局指针：抽取与分类分开，各类型共享 q、k，参数量少得多。

    a and b are half of a linear map of what q and k are taken from, before rotary positions. Masks, positions and
    shapes are those of `GlobalPointer`. Source: kexue.fm/archives/8877; bert4keras (even channels q, odd ones k; even
    outputs the bias of the end, odd ones that of the start).
    """

    def __init__(
        self,
        size: int,
        kinds: int,
        head_size: int = 64,
        *,
        rotary: float | None = BASE,
        triangle: bool = True,
    ) -> None:
        super().__init__()
        _check_size(head_size, rotary)
        self.kinds, self.head_size, self.rotary, self.triangle = kinds, head_size, rotary, triangle
        self.projection = nn.Linear(size, 2 * head_size)
        self.bias = nn.Linear(2 * head_size, 2 * kinds)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        """[N, C] to [B, kinds, T, T]."""
        projected = self.projection(hidden)
        packing = padded_right(layout)
        query, key = (
            packing.unpack(_placed(part[:, None], layout, self.rotary)).squeeze(2)
            for part in (projected[:, 0::2], projected[:, 1::2])
        )
        scores = torch.einsum("bid,bjd->bij", query, key) / math.sqrt(self.head_size)
        biases = packing.unpack(self.bias(projected) / 2).transpose(1, 2)
        typed = scores[:, None] + biases[:, 0::2, None, :] + biases[:, 1::2, :, None]
        return _masked(typed, layout, self.triangle)


def span_ids(spans: Sequence[Sequence[Span]], scores: Tensor) -> Tensor:
    """The spans of each row as ids i · T + j for `zlpr_sparse(scores.flatten(2), ids)`: int64 [B, kinds, P].

    把片段写成稀疏标签编号；不足处以 −1 填充。

    Rows of a type with fewer than P spans end in −1. Shapes: scores [B, kinds, T, T], of which the shape alone is used.
    Raises UserError for another number of rows, and for a span outside of them.
    """
    count, kinds, length, _ = scores.shape
    if len(spans) != count:
        raise UserError(f"span_ids: expected the spans of {count} rows, got those of {len(spans)}")
    found: list[list[int]] = [[] for _ in range(count * kinds)]
    for row, named in enumerate(spans):
        for span in named:
            _check_span(span, row, kinds, length)
            found[row * kinds + span.kind].append(span.start * length + span.end)
    most = max(map(len, found), default=0)
    padded = [ids + [-1] * (most - len(ids)) for ids in found]
    return torch.tensor(padded, dtype=torch.int64, device=scores.device).view(count, kinds, most)


def find_spans(scores: Tensor, threshold: float = 0.0) -> list[list[Span]]:
    """The spans of each row whose score is above the threshold, by type, start and end.

    打分高于阈值的片段。

    Shapes: [B, kinds, T, T].
    """
    found: list[list[Span]] = [[] for _ in range(len(scores))]
    for row, kind, start, end in (scores > threshold).nonzero().tolist():
        found[row].append(Span(kind, start, end))
    return found


def _check_size(head_size: int, rotary: float | None) -> None:
    if rotary is not None and head_size % 2:
        raise UserError(
            f"rotary positions turn pairs of channels: expected an even head size, got {head_size}"
        )


def _check_span(span: Span, row: int, kinds: int, length: int) -> None:
    if not (0 <= span.kind < kinds and 0 <= span.start < length and 0 <= span.end < length):
        raise UserError(
            f"span_ids: row {row}: expected a kind below {kinds} and tokens below {length}, got {tuple(span)}"
        )


def _placed(part: Tensor, layout: Layout, rotary: float | None) -> Tensor:
    """Turned by the positions of the tokens: [N, H, D]."""
    if rotary is None:
        return part
    table = layout.rotary(part.shape[-1], torch.promote_types(part.dtype, torch.float32), rotary)
    return rotate(part, table)


def _masked(scores: Tensor, layout: Layout, triangle: bool) -> Tensor:
    """−inf for pairs with padding, and for those that end before they start: [B, kinds, T, T]."""
    length = scores.shape[-1]
    place = torch.arange(length, device=scores.device)
    lengths = torch.tensor(layout.lengths, dtype=torch.int64, device=scores.device)
    real = place < lengths[:, None]
    seen = real[:, :, None] & real[:, None, :]
    if triangle:
        seen = seen & (place[:, None] <= place)
    return scores.masked_fill(~seen[:, None], -math.inf)
