"""Who may look at whom: rules as small objects, the one source of truth for every mask.

A rule has one method, `allows(query, key)`. Dense masks, blocked plans and the oracles of the tests all derive
from it. `rule.bind(query_layout, key_layout)` gives the visibility of one batch, computed once and shared by
all layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hanformer.nn.functional.packing import Layout, padded_right


@dataclass(frozen=True, eq=False)
class Tokens:
    """What a rule may know of tokens: three int64 tensors of one shape, ready to be broadcast.

    规则可以知道的词元信息：行内序号、段编号、段的累加和。

    `index` is the place in the row, `segment` the segment id, `reach` the running sum of segments.
    """

    index: Tensor
    segment: Tensor
    reach: Tensor

    def as_queries(self) -> Tokens:
        """[..., Q] to [..., Q, 1]."""
        return Tokens(self.index[..., :, None], self.segment[..., :, None], self.reach[..., :, None])

    def as_keys(self) -> Tokens:
        """[..., K] to [..., 1, K]."""
        return Tokens(self.index[..., None, :], self.segment[..., None, :], self.reach[..., None, :])

    def select(self, rows: Tensor) -> Tokens:
        """The tokens of some rows: [B, ...] to [len(rows), ...]."""
        return Tokens(self.index[rows], self.segment[rows], self.reach[rows])


class Rule(ABC):
    """Which (query, key) pairs of one row may look at each other; rules join with `&` and `|`.

    可见性规则：哪些（查询，键）对可以互相看见；可用 & 与 | 组合。
    """

    #: True where every pair is allowed.
    is_full = False
    #: True where exactly j <= i is allowed: kernels have a form of their own for it, which needs no mask.
    is_causal = False

    @abstractmethod
    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        """Bool tensor of the broadcast shape: True = may look."""

    def bind(self, query: Layout, key: Layout | None = None) -> Visibility:
        """The visibility of one batch: of `query` rows over themselves, or over the rows of `key`."""
        return Visibility(self, query, query if key is None else key)

    def __and__(self, other: Rule) -> Rule:
        return Both(self, other)

    def __or__(self, other: Rule) -> Rule:
        return Either(self, other)


@dataclass(frozen=True)
class Full(Rule):
    """Every token looks at every token of its row. 全部可见。"""

    is_full = True

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return torch.ones(
            torch.broadcast_shapes(query.index.shape, key.index.shape),
            dtype=torch.bool,
            device=key.index.device,
        )


@dataclass(frozen=True)
class Causal(Rule):
    """A token looks at itself and at what stands before it: j <= i. 只看左边（语言模型）。"""

    is_causal = True

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return key.index <= query.index


@dataclass(frozen=True)
class UniLM(Rule):
    """Segment 0 sees segment 0; each token of segment 1 sees segment 0 and what stands before it in segment 1.

    UniLM：第 0 段互相可见，第 1 段单向。

    With c = cumsum(segments) in the row: j is visible to i iff c_j <= c_i.
    Source: Dong et al. 2019, arXiv 1905.03197; kexue.fm/archives/6933.
    """

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return key.reach <= query.reach


@dataclass(frozen=True)
class Both(Rule):
    """What both rules allow. 两条规则的交。"""

    first: Rule
    second: Rule

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return self.first.allows(query, key) & self.second.allows(query, key)


@dataclass(frozen=True)
class Either(Rule):
    """What either rule allows. 两条规则的并。"""

    first: Rule
    second: Rule

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return self.first.allows(query, key) | self.second.allows(query, key)


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


#: Rows share a rectangle as long as its padding costs less than this share of its tokens.
PADDING_TOLERANCE = 0.25


def cut_rows(lengths: tuple[tuple[int, ...], ...]) -> list[tuple[int, int]]:
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


def _group(layout: Layout, first: int, last: int) -> Group:
    lengths = layout.lengths[first:last]
    longest = max(lengths)
    tokens = slice(layout.offsets[first], layout.offsets[last])
    if min(lengths) == longest:
        return Group(last - first, longest, tokens, None)
    places = (layout.row_of_token[tokens] - first) * longest + layout.index_of_token[tokens]
    return Group(last - first, longest, tokens, places)


@dataclass(frozen=True, eq=False)
class Plan:
    """One rectangle of attention: query group, key group, and the mask that the kernel needs, if any.

    一个矩形注意力块：查询组、键组和所需的掩码。

    `first` is the first row of the batch in it. `mask` is bool, broadcastable to [rows, 1, Q, K]; None where nothing
    in the rectangle is hidden, or where `causal` says that the kernel's own causal form is exact.
    """

    first: int
    query: Group
    key: Group
    mask: Tensor | None
    causal: bool


@dataclass(frozen=True, eq=False)
class Visibility:
    """A rule bound to one batch; the plan is computed once and serves every layer.

    绑定到一个批次的规则；执行计划只计算一次，各层共用。
    """

    rule: Rule
    query: Layout
    key: Layout

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """How attention runs: rectangles of neighbouring rows, little padding, the lightest exact mask."""
        same = self.query is self.key
        lengths = (self.query.lengths,) if same else (self.query.lengths, self.key.lengths)
        runs = cut_rows(lengths)
        return tuple(
            self._plan(first, last, same) for first, last in runs if sum(self.query.lengths[first:last])
        )

    def _plan(self, first: int, last: int, same: bool) -> Plan:
        query = _group(self.query, first, last)
        key = query if same else _group(self.key, first, last)
        # Padding stands on the right, where no real token looks.
        if same and self.rule.is_causal:
            return Plan(first, query, key, None, causal=True)
        if self.rule.is_full:
            hidden = None if key.places is None else key.real()[:, None, None, :]
            return Plan(first, query, key, hidden, causal=False)
        return Plan(first, query, key, self._dense(query, key), causal=False)

    def mask(self, plan: Plan) -> Tensor:
        """Bool, broadcastable to [rows, 1, Q, K]: what a rectangle may look at, for kernels that know no rules."""
        if plan.mask is not None:
            return plan.mask
        if not plan.causal:
            return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.query.positions.device)
        places = torch.arange(plan.key.length, device=self.query.positions.device)
        return (places[None, :] <= places[:, None])[None, None]

    def distance(self, plan: Plan) -> Tensor:
        """How far keys stand from queries, position of key − position of query: int64 [rows or 1, Q, K]."""
        if plan.first not in self._distances:
            self._distances[plan.first] = self._distance(plan)
        return self._distances[plan.first]

    @cached_property
    def _distances(self) -> dict[int, Tensor]:
        return {}

    def _distance(self, plan: Plan) -> Tensor:
        if self.query.counts_from_zero and self.key.counts_from_zero:
            device = self.query.positions.device
            query = torch.arange(plan.query.length, device=device)[None]
            key = torch.arange(plan.key.length, device=device)[None]
        else:
            query, key = plan.query.fill(self.query.positions), plan.key.fill(self.key.positions)
        return key[:, None, :] - query[:, :, None]

    def _dense(self, query: Group, key: Group) -> Tensor:
        """Bool [rows, 1, Q, K]. Padded queries see everything, so that no row of the softmax is empty."""
        mask = self.rule.allows(tokens_of(self.query, query).as_queries(), tokens_of(self.key, key).as_keys())
        if key.places is not None:
            mask = mask & key.real()[:, None, :]
        if query.places is not None:
            mask = mask | ~query.real()[:, :, None]
        return mask[:, None]

    def dense(self) -> Tensor:
        """Bool [B, Q, K] over rows padded on the right: the definition, for oracles and returned maps."""
        query = rectangle(self.query)
        key = rectangle(self.key)
        allowed = self.rule.allows(
            tokens_of(self.query, query).as_queries(), tokens_of(self.key, key).as_keys()
        )
        return allowed & query.real()[:, :, None] & key.real()[:, None, :]


def rectangle(layout: Layout) -> Group:
    """All rows of a layout as one rectangle, padded on the right. 整个批次作为一个右填充矩形。"""
    padded = padded_right(layout)
    return Group(*padded.shape, slice(0, layout.total), padded.places)


def tokens_of(layout: Layout, group: Group) -> Tokens:
    """What a rule may know of the tokens of a group: tensors of shape [rows, length].

    一组行的词元信息，形状为 [行数, 长度]。
    """
    return Tokens(
        group.fill(layout.index_of_token), group.fill(layout.segments), group.fill(layout.reach_of_token)
    )
