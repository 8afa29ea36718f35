"""A rule bound to one batch: which rectangles attention computes, and what is hidden in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hanformer.nn.functional.groups import (
    PADDING_TOLERANCE,
    Group,
    Windows,
    cut_rows,
    group_of,
    rectangle,
)
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.rules import Both, Causal, Either, Full, Rule, Tokens, UniLM
from hanformer.nn.functional.spans import BEHIND, EVERYWHERE, Span, simplify

__all__ = [
    "PADDING_TOLERANCE",
    "Both",
    "Causal",
    "Either",
    "Full",
    "Group",
    "Piece",
    "Plan",
    "Rule",
    "Tokens",
    "UniLM",
    "Visibility",
    "cut_rows",
    "rectangle",
    "tokens_of",
]


@dataclass(frozen=True, eq=False)
class Plan:
    """One rectangle of attention: query group, key group, and the mask that the kernel needs, if any.

    一个矩形注意力块：查询组、键组和所需的掩码。

    `first` is the first row of the batch in it. `mask` is bool, broadcastable to [rows, 1, Q, K]; None where nothing
    in the rectangle is hidden, or where `causal` says that the kernel's own causal form is exact. Tokens stand in
    the order of its piece; where rows count from zero, key c is (c + shift − a) · stride tokens after query a.
    """

    first: int
    query: Group
    key: Group | Windows
    mask: Tensor | None
    causal: bool
    order: Tensor | None = None
    stride: int = 1
    shift: int = 0

    @cached_property
    def blind(self) -> Tensor | None:
        """Bool [rows or 1, 1, Q, 1]: queries that see nothing here; None where there is no mask."""
        return None if self.mask is None else ~self.mask.any(-1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Piece:
    """Plans that together hold every query once, in an order of tokens: what a query sees is in one plan of each piece.

    若干计划合起来恰好包含每个查询一次；不同的块互不重叠。

    `order` [N] are places in the packed batch, None where tokens stand as they are.
    """

    order: Tensor | None
    plans: tuple[Plan, ...]

    def arrange(self, packed: Tensor) -> Tensor:
        """[N, ...] in the order of the piece."""
        return packed if self.order is None else packed.index_select(0, self.order)

    def rectangles(self, query: Tensor, key: Tensor, value: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Queries, keys and values of each plan: [N, H, D] to [rows, H, length, D]."""
        query, key, value = self.arrange(query), self.arrange(key), self.arrange(value)
        queries, keys = [plan.query for plan in self.plans], [plan.key for plan in self.plans]
        owned = zip(_owned(query, queries), _owned(key, keys), _owned(value, keys), strict=True)
        return [
            (plan.query.gather(own), plan.key.gather(own_key), plan.key.gather(own_value))
            for plan, (own, own_key, own_value) in zip(self.plans, owned, strict=True)
        ]

    def spread(self, packed: Tensor) -> list[Tensor]:
        """[N, H, D] to what the queries of each plan own of it, [rows, H, length, D]."""
        groups = [plan.query for plan in self.plans]
        owned = zip(groups, _owned(self.arrange(packed), groups), strict=True)
        return [group.gather(own) for group, own in owned]

    def collect(self, mixed: Sequence[Tensor]) -> Tensor:
        """The way back, [rows, H, length, D] of each plan to [N, H, D]."""
        parts = [plan.query.scatter(part) for plan, part in zip(self.plans, mixed, strict=True)]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole if self.order is None else whole.index_select(0, self._back)

    @cached_property
    def _back(self) -> Tensor:
        assert self.order is not None
        return torch.argsort(self.order)


def _owned(packed: Tensor, groups: Sequence[Group | Windows]) -> tuple[Tensor, ...]:
    """The tokens of each group, as views made by one split.

    Its gradient is one concatenation; that of a slice is as large as the whole batch, once for every group.
    """
    sizes, end = [], 0
    for group in groups:
        sizes += [group.tokens.start - end, group.tokens.stop - group.tokens.start]
        end = group.tokens.stop
    return packed.split([*sizes, len(packed) - end])[1::2]


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
        """All pairs of tokens: rectangles of neighbouring rows, little padding, the lightest exact mask."""
        same = self.query is self.key
        lengths = (self.query.lengths,) if same else (self.query.lengths, self.key.lengths)
        runs = cut_rows(lengths)
        return tuple(
            self._plan(first, last, same) for first, last in runs if sum(self.query.lengths[first:last])
        )

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """How attention runs: what few pairs can be allowed is cut out; else one piece, the plans as they are."""
        # Cutting needs plans, and is itself a large subject: it stands in a file of its own.
        from hanformer.nn.functional.cutting import cut

        pieces = cut(self.rule, self.query) if self.query is self.key else ()
        return pieces or self.whole

    @cached_property
    def whole(self) -> tuple[Piece, ...]:
        """All pairs of tokens as one piece; no piece where there are no queries."""
        return (Piece(None, self.plans),) if self.plans else ()

    def _plan(self, first: int, last: int, same: bool) -> Plan:
        query = group_of(self.query, first, last)
        key = query if same else group_of(self.key, first, last)
        # Padding stands on the right, where no real token looks.
        if same and (self.rule.is_causal or self._allows_all_of(BEHIND)):
            return Plan(first, query, key, None, causal=True)
        if self.rule.is_full or self._allows_all_of(EVERYWHERE):
            hidden = None if key.places is None else key.real()[:, None, None, :]
            return Plan(first, query, key, hidden, causal=False)
        return Plan(first, query, key, self._dense(query, key), causal=False)

    def _allows_all_of(self, span: Span) -> bool:
        """Whether these distances are what the rule allows, as far as rows of this batch reach."""
        longest = max(*self.query.lengths, *self.key.lengths)
        return self.rule.by_distance and simplify(self.rule.spans, longest) == (span,)

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
        if plan not in self._distances:
            self._distances[plan] = self._distance(plan)
        return self._distances[plan]

    @cached_property
    def _distances(self) -> dict[Plan, Tensor]:
        return {}

    def _distance(self, plan: Plan) -> Tensor:
        if self.query.counts_from_zero and self.key.counts_from_zero:
            device = self.query.positions.device
            query = torch.arange(plan.query.length, device=device)[None] * plan.stride
            key = (torch.arange(plan.key.length, device=device)[None] + plan.shift) * plan.stride
        else:
            order = slice(None) if plan.order is None else plan.order
            query = plan.query.fill(self.query.positions[order])
            key = plan.key.fill(self.key.positions[order])
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


def tokens_of(layout: Layout, group: Group) -> Tokens:
    """What a rule may know of the tokens of a group: tensors of shape [rows, length].

    一组行的词元信息，形状为 [行数, 长度]。
    """
    return Tokens(
        group.fill(layout.index_of_token), group.fill(layout.segments), group.fill(layout.reach_of_token)
    )
