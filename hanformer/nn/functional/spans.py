"""Spans of distances: what a rule allows at most, in a form from which plans can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

from torch import Tensor

#: Farther than any key stands from a query.
FAR = 1 << 40


@dataclass(frozen=True)
class Span:
    """The offsets index of key − index of query from `low` to `high` that are multiples of `stride`.

    键与查询序号之差的一个区间，可带步长。
    """

    low: int = -FAR
    high: int = FAR
    stride: int = 1

    @property
    def bounded(self) -> bool:
        """Whether both ends are near."""
        return self.low > -FAR and self.high < FAR

    def clip(self, longest: int) -> Span:
        """The same in rows of at most that many tokens: ends that none of their offsets passes are no ends."""
        low = -FAR if self.low <= 1 - longest else self.low
        return Span(low, FAR if self.high >= longest - 1 else self.high, self.stride)

    def __and__(self, other: Span) -> Span:
        return Span(max(self.low, other.low), min(self.high, other.high), lcm(self.stride, other.stride))

    def covers(self, other: Span) -> bool:
        """Whether every offset of the other is one of these."""
        inside = self.low <= other.low and other.high <= self.high
        return inside and other.stride % self.stride == 0

    def contains(self, offset: Tensor) -> Tensor:
        """Which offsets are in it: int64 to bool of the same shape."""
        return (offset >= self.low) & (offset <= self.high) & (offset % self.stride == 0)


EVERYWHERE, BEHIND = Span(), Span(high=0)


def meet(first: Sequence[Span], second: Sequence[Span]) -> tuple[Span, ...]:
    """What is in a span of both. 两组区间的交。"""
    both = (one & other for one in first for other in second)
    return tuple(span for span in both if span.low <= span.high)


def simplify(spans: Sequence[Span], longest: int) -> tuple[Span, ...]:
    """The same offsets in rows of at most that many tokens, without spans inside others; those without an end first.

    去掉被包含的区间，无界者在前。
    """
    kept: list[Span] = []
    for span in (span.clip(longest) for span in spans):
        if not any(other.covers(span) for other in kept):
            kept = [other for other in kept if not span.covers(other)] + [span]
    return tuple(sorted(kept, key=lambda span: span.bounded))
