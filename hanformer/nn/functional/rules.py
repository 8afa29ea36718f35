"""Who may look at whom: rules as small objects, the one source of truth for every mask.

A rule has one method that defines it, `allows(query, key)`. Dense masks, blocked plans and the oracles of the tests
all derive from it. `rule.bind(query_layout, key_layout)` gives the visibility of one batch, computed once and shared
by all layers. `spans` says which distances can be allowed at all, so that plans can leave out the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.spans import BEHIND, EVERYWHERE, Span, meet

if TYPE_CHECKING:
    from hanformer.nn.functional.visibility import Visibility


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

    @property
    def spans(self) -> tuple[Span, ...]:
        """Distances outside of which nothing is allowed; a rule that says nothing may allow any."""
        return (EVERYWHERE,)

    @property
    def by_distance(self) -> bool:
        """Whether the distance alone decides, and everything in `spans` is allowed."""
        return False

    @abstractmethod
    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        """Bool tensor of the broadcast shape: True = may look."""

    def bind(self, query: Layout, key: Layout | None = None) -> Visibility:
        """The visibility of one batch: of `query` rows over themselves, or over the rows of `key`."""
        # Visibilities are made of rules: here alone it is the other way round.
        from hanformer.nn.functional.visibility import Visibility

        return Visibility(self, query, query if key is None else key)

    def __and__(self, other: Rule) -> Rule:
        return Both(self, other)

    def __or__(self, other: Rule) -> Rule:
        return Either(self, other)


@dataclass(frozen=True)
class Full(Rule):
    """Every token looks at every token of its row. 全部可见。"""

    is_full = True
    by_distance = True

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
    by_distance = True
    spans = (BEHIND,)

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

    @property
    def spans(self) -> tuple[Span, ...]:
        return meet(self.first.spans, self.second.spans)

    @property
    def by_distance(self) -> bool:
        return self.first.by_distance and self.second.by_distance

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return self.first.allows(query, key) & self.second.allows(query, key)


@dataclass(frozen=True)
class Either(Rule):
    """What either rule allows. 两条规则的并。"""

    first: Rule
    second: Rule

    @property
    def spans(self) -> tuple[Span, ...]:
        return (*self.first.spans, *self.second.spans)

    @property
    def by_distance(self) -> bool:
        return self.first.by_distance and self.second.by_distance

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return self.first.allows(query, key) | self.second.allows(query, key)
