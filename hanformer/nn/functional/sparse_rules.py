"""Sparse patterns: local, atrous, and both at once.

稀疏注意力的可见性规则。

Source: kexue.fm/archives/6853; Child et al. 2019, arXiv 1904.10509. The published Keras code differs from its own
definition (it stretches the window by the rate and counts shared pairs twice); these rules are the definition.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.functional.rules import Rule, Tokens
from hanformer.nn.functional.spans import Span

#: The most of a radius or a rate: no row has as many tokens.
_MOST = 2**31 - 1


@dataclass(frozen=True)
class Local(Rule):
    """A token looks at its neighbours: |i − j| <= radius, a window of 2·radius + 1. 局部注意力。

    Raises UserError for a radius that is not a whole number from 0 to 2³¹ − 1.
    """

    radius: int
    by_distance = True

    def __post_init__(self) -> None:
        require_whole("radius", self.radius, 0)

    @property
    def spans(self) -> tuple[Span, ...]:
        return (Span(-self.radius, self.radius),)

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return (query.index - key.index).abs() <= self.radius


@dataclass(frozen=True)
class Atrous(Rule):
    """A token looks at every rate-th: i − j is a multiple of rate, 0 included. 空洞注意力。

    Raises UserError for a rate that is not a whole number from 1 to 2³¹ − 1.
    """

    rate: int
    by_distance = True

    def __post_init__(self) -> None:
        require_whole("rate", self.rate, 1)

    @property
    def spans(self) -> tuple[Span, ...]:
        return (Span(stride=self.rate),)

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return (query.index - key.index) % self.rate == 0


@dataclass(frozen=True)
class Sparse(Rule):
    """A token looks at its neighbours, and at every rate-th beyond: |i − j| <= radius or (i − j) mod rate = 0.

    稀疏注意力：局部与空洞之并；默认局部半径等于 rate。

    `radius` None means rate, which is the post's form. Raises UserError for sizes that are not whole numbers.
    """

    rate: int
    radius: int | None = None
    by_distance = True

    def __post_init__(self) -> None:
        require_whole("rate", self.rate, 1)
        require_whole("radius", self.reach, 0)

    @property
    def reach(self) -> int:
        """The radius of the local part."""
        return self.rate if self.radius is None else self.radius

    @property
    def spans(self) -> tuple[Span, ...]:
        return (Span(stride=self.rate), Span(-self.reach, self.reach))

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        distance = query.index - key.index
        return (distance.abs() <= self.reach) | (distance % self.rate == 0)


def require_whole(name: str, value: object, least: int) -> None:
    """Raises UserError unless the value is a whole number from `least` to what 32 bits count to. 检查整数选项。"""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
        raise UserError(
            f"{name}: expected a whole number, {least} or more and at most {_MOST}, got {value!r}"
        )
