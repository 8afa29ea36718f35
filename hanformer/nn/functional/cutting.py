"""Plans of sparse rules, whose cost is that of the pairs that can be allowed.

稀疏规则的执行计划：代价与可能可见的对数成正比，从不建立 n×n 的掩码。

A rule names spans of distances. Each span becomes a piece: the tokens of a residue class modulo its stride stand
together as a row of their own, which makes its offsets neighbours; a near span is then computed as blocks of queries
against windows of keys, one without an end as rectangles. A pair that lies in several spans belongs to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from hanformer.nn.functional.groups import Group, Windows, cut_rows, group_of
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.plans import Piece, Plan
from hanformer.nn.functional.rules import Rule, Tokens
from hanformer.nn.functional.spans import Span, simplify

#: Batches whose longest row is not above this run as plain rectangles: there cutting costs more than it saves.
SHORT = 64
#: The least and the most queries of a block.
BLOCKS = (32, 128)


def cut(rule: Rule, layout: Layout) -> tuple[Piece, ...]:
    """The pieces of a batch of rows over themselves; none where its plain plans are as good, or nothing is allowed.

    把稀疏规则切成若干互不重叠的块。
    """
    longest = max(layout.lengths, default=0)
    spans = simplify(rule.spans, longest)
    dense = any(span.stride == 1 and not span.bounded for span in spans)
    if dense or longest <= SHORT:
        return ()
    cutters = [_Cutter(rule, layout, span, spans[:place]) for place, span in enumerate(spans)]
    return tuple(cutter.piece() for cutter in cutters)


@dataclass(frozen=True, eq=False)
class _Cutter:
    """One span of a rule over one batch, without what earlier spans hold."""

    rule: Rule
    layout: Layout
    span: Span
    earlier: tuple[Span, ...]

    def piece(self) -> Piece:
        """Runs of long rows as bands, the others as rectangles."""
        plans = []
        rows = groupby(range(self.line.rows), key=lambda row: self._is_band(self.line.lengths[row]))
        for banded, run in rows:
            members = list(run)
            first, last = members[0], members[-1] + 1
            cuts = [(first, last)] if banded else self._rectangles(first, last)
            plans += [self._band(*pair) if banded else self._rectangle(*pair) for pair in cuts]
        return Piece(self.order, tuple(plans))

    # --------------------------------------------------------------------------------- the line of tokens
    @cached_property
    def order(self) -> Tensor | None:
        """Tokens of one residue class beside each other, classes of one row beside each other."""
        stride = self.span.stride
        if stride == 1:
            return None
        keys = self.layout.row_of_token * stride + self.layout.index_of_token % stride
        return torch.argsort(keys, stable=True)

    @cached_property
    def line(self) -> Layout:
        """The tokens in that order, each residue class a row."""
        if self.order is None:
            return self.layout
        stride = self.span.stride
        lengths = [
            (length - residue + stride - 1) // stride
            for length in self.layout.lengths
            for residue in range(min(stride, length))
        ]
        return Layout(tuple(lengths), self.layout.positions[self.order], self.layout.segments[self.order])

    @cached_property
    def tokens(self) -> Tokens:
        """What the rule may know of them: [N]."""
        layout, order = self.layout, slice(None) if self.order is None else self.order
        return Tokens(layout.index_of_token[order], layout.segments[order], layout.reach_of_token[order])

    # --------------------------------------------------------------------------------------------- bands
    @property
    def low(self) -> int:
        """The first key of a query, in tokens of the line."""
        return -(-self.span.low // self.span.stride)

    @property
    def reach(self) -> int:
        """How many more keys than queries a block looks at."""
        return self.span.high // self.span.stride - self.low

    @property
    def block(self) -> int:
        """The queries of a block: a power of two near a quarter of the window."""
        return min(max(BLOCKS[0], 1 << max(self.reach // 4, 1).bit_length() - 1), BLOCKS[1])

    def _is_band(self, length: int) -> bool:
        return self.span.bounded and length > self.block + self.reach

    def _band(self, first: int, last: int) -> Plan:
        """Rows as one line of blocks; windows that reach into a neighbouring row are masked there."""
        own = slice(self.line.offsets[first], self.line.offsets[last])
        total, block = own.stop - own.start, self.block
        blocks = -(-total // block)
        whole = blocks * block == total
        places = None if whole else torch.arange(total, device=self.layout.positions.device)
        query = Group(blocks, block, own, places)
        key = Windows(blocks, block + self.reach, own, block, self.low)
        rows = self.line.row_of_token + 1
        same_row = query.fill(rows)[:, :, None] == key.fill(rows)[:, None, :]
        mask = (same_row & self._allowed(query, key, self.low))[:, None]
        return Plan(first, query, key, mask, False, self.order, self.span.stride, self.low)

    # ---------------------------------------------------------------------------------------- rectangles
    def _rectangles(self, first: int, last: int) -> list[tuple[int, int]]:
        runs = cut_rows((self.line.lengths[first:last],))
        found = [(first + start, first + end) for start, end in runs]
        return [(start, end) for start, end in found if sum(self.line.lengths[start:end])]

    def _rectangle(self, first: int, last: int) -> Plan:
        group = group_of(self.line, first, last)
        # A class whose tokens all see each other, or all that came before: kernels need no mask for it.
        simple = self.rule.by_distance and not self.span.bounded and not self.earlier
        if simple and (self.span.low, self.span.high) == (Span.low, 0):
            return Plan(first, group, group, None, True, self.order, self.span.stride)
        if simple and (self.span.low, self.span.high) == (Span.low, Span.high):
            hidden = None if group.places is None else group.real()[:, None, None, :]
            return Plan(first, group, group, hidden, False, self.order, self.span.stride)
        mask = self._allowed(group, group, 0)
        if group.places is not None:
            mask = (mask & group.real()[:, None, :]) | ~group.real()[:, :, None]
        return Plan(first, group, group, mask[:, None], False, self.order, self.span.stride)

    # --------------------------------------------------------------------------------------------- masks
    def _allowed(self, query: Group, key: Group | Windows, shift: int) -> Tensor:
        """Bool [rows or 1, Q, K]: the rule, inside this span and outside of earlier ones."""
        asked, answered = self._known(query, 0), self._known(key, shift)
        asked, answered = asked.as_queries(), answered.as_keys()
        offset = answered.index - asked.index
        allowed = self.rule.allows(asked, answered) & self.span.contains(offset)
        for span in self.earlier:
            allowed = allowed & ~span.contains(offset)
        return allowed

    def _known(self, group: Group | Windows, shift: int) -> Tokens:
        """[rows, length] of a group; one row stands for all where the distance alone decides."""
        if self.rule.by_distance:
            device = self.layout.positions.device
            index = (torch.arange(group.length, device=device)[None] + shift) * self.span.stride
            return Tokens(index, torch.zeros_like(index), torch.zeros_like(index))
        known = self.tokens
        return Tokens(group.fill(known.index), group.fill(known.segment), group.fill(known.reach))


def pairs(pieces: Sequence[Piece]) -> int:
    """How many pairs the rectangles of some pieces hold: what attention over them costs. 计算的（查询，键）对数。"""
    plans = [plan for piece in pieces for plan in piece.plans]
    return sum(plan.query.rows * plan.query.length * plan.key.length for plan in plans)
