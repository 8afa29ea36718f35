"""A rule bound to one batch: which rectangles attention computes, and what is hidden in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hanformer.nn.functional.cutting import cut
from hanformer.nn.functional.groups import (
    PADDING_TOLERANCE,
    Group,
    cut_rows,
    group_of,
    rectangle,
)
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.plans import Piece, Plan
from hanformer.nn.functional.rules import Both, Causal, Either, Full, Rule, Tokens, UniLM
from hanformer.nn.functional.spans import BEHIND, EVERYWHERE, Span, simplify

__all__ = [
    "PADDING_TOLERANCE",
    "Both",
    "Causal",
    "Either",
    "Full",
    "Group",
    "Rule",
    "Tokens",
    "UniLM",
    "Visibility",
    "cut_rows",
    "rectangle",
    "tokens_of",
]


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
