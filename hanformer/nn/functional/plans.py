"""Rectangles of attention, and the pieces that they make up: what is computed, in which order of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hanformer.nn.functional.groups import Group, Windows


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
        parts = zip(owned(query, queries), owned(key, keys), owned(value, keys), strict=True)
        return [
            (plan.query.gather(own), plan.key.gather(own_key), plan.key.gather(own_value))
            for plan, (own, own_key, own_value) in zip(self.plans, parts, strict=True)
        ]

    def spread(self, packed: Tensor) -> list[Tensor]:
        """[N, H, D] to what the queries of each plan own of it, [rows, H, length, D]."""
        groups = [plan.query for plan in self.plans]
        parts = zip(groups, owned(self.arrange(packed), groups), strict=True)
        return [group.gather(own) for group, own in parts]

    def collect(self, mixed: Sequence[Tensor]) -> Tensor:
        """The way back, [rows, H, length, D] of each plan to [N, H, D]."""
        parts = [plan.query.scatter(part) for plan, part in zip(self.plans, mixed, strict=True)]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole if self.order is None else whole.index_select(0, self._back)

    @cached_property
    def _back(self) -> Tensor:
        assert self.order is not None
        return torch.argsort(self.order)


def owned(packed: Tensor, groups: Sequence[Group | Windows]) -> tuple[Tensor, ...]:
    """The tokens of each group, as views made by one split. 各组所拥有的词元（一次切分得到的视图）。

    Its gradient is one concatenation; that of a slice is as large as the whole batch, once for every group.
    """
    sizes, end = [], 0
    for group in groups:
        sizes += [group.tokens.start - end, group.tokens.stop - group.tokens.start]
        end = group.tokens.stop
    return packed.split([*sizes, len(packed) - end])[1::2]
