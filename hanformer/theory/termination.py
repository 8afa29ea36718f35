"""Texts that do not end: the rate of non-termination, and its curve over lengths. 不终止率及其随长度的曲线。"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hanformer.errors import UserError


def unfinished_curve(ends: Sequence[int | None], lengths: Sequence[int]) -> list[float]:
    """The share of texts that have not ended by each length.

    不终止率：到给定长度仍未结束的文本所占比例。

        r(L) = share of texts whose end token is not among their first L tokens

    `ends` are the places of the end tokens, counted from 1; None: cut before one came. Raises UserError for no texts.
    Source: Welleck et al. 2020, arXiv 2002.02492; kexue.fm/archives/7500.
    """
    if not ends:
        raise UserError("expected at least one text, got none")
    closed = sorted(end for end in ends if end is not None)
    return [1 - bisect_right(closed, length) / len(ends) for length in lengths]


class Generated(Protocol):
    """A generated row: its tokens without the end token, and whether it ended. 一条生成结果。

    The `Hypothesis` of decoding is one.
    """

    @property
    def tokens(self) -> Sequence[int]:
        """The new tokens."""
        ...

    @property
    def finished(self) -> bool:
        """Whether an end token, or a stop condition, closed it."""
        ...


@dataclass(frozen=True)
class NonTermination:
    """The share of rows that have not ended by the last of `lengths`, and by each of them.

    未终止率，以及随长度变化的曲线。

    `curve[i]` belongs to `lengths[i]`; `rate` is `curve[-1]`.
    """

    rate: float
    lengths: tuple[int, ...]
    curve: tuple[float, ...]


def non_termination(rows: Iterable[Generated], lengths: Sequence[int]) -> NonTermination:
    """`unfinished_curve` of generated rows; the end token counts as one token.

    由生成结果计算未终止率及其曲线。

    `lengths` are in rising order. Raises UserError where there is no row or no length, and where a row was cut before
    the last length: it could have ended later.
    Source: Welleck et al. 2020, arXiv 2002.02492.
    """
    known = tuple(lengths)
    if not known or known[0] < 1 or list(known) != sorted(set(known)):
        raise UserError(f"lengths: expected rising numbers of at least 1, got {list(known)}")
    curve = tuple(unfinished_curve([_end_of(row, known[-1]) for row in rows], known))
    return NonTermination(curve[-1], known, curve)


def _end_of(row: Generated, longest: int) -> int | None:
    """The number of tokens after which a row had ended; None where it was cut."""
    if row.finished:
        return len(row.tokens) + 1
    if len(row.tokens) < longest:
        raise UserError(
            f"expected rows of {longest} tokens where they have not ended, got one cut at {len(row.tokens)}; "
            f"generate with maximum_length={longest}, or ask for shorter lengths"
        )
    return None


def certain_end(epsilon: float) -> int:
    """After how many tokens greedy decoding with a head that must stop has surely ended, the end token counted.

    自终止输出层在贪心解码下必然结束的步数。

        p_t(end) >= 1 - (1 - epsilon)^t > 1/2  where  t > -ln 2 / ln(1 - epsilon)

    Texts nearly as long as this are cut by the head. Raises UserError unless 0 < epsilon < 1.
    Source: kexue.fm/archives/7500.
    """
    if not 0 < epsilon < 1:
        raise UserError(f"expected an epsilon between 0 and 1, got {epsilon}")
    return math.floor(-math.log(2) / math.log1p(-epsilon)) + 1
