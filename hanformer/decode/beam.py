"""Beam search with a pool of finished hypotheses, a length penalty, and stopping without loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hanformer.decode.search import Candidate, Hypothesis, Path, Proposal, Scores, Search
from hanformer.errors import UserError

LengthPenalty = Callable[[int], float]
"""Divisor of the summed log-probability for a length in tokens (the end token counts), monotonic in it.

长度惩罚：对数概率之和除以它，须随长度单调。
"""


@dataclass(frozen=True)
class Power:
    """Length penalty length ** alpha: 0 compares sums, 1 compares means per token.

    幂形式的长度惩罚：0 比较总和，1 比较平均。

    Raises UserError for an exponent beyond -50 to 50, whose powers would leave the range of numbers.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_exponent(self.alpha)

    def __call__(self, length: int) -> float:
        return float(length**self.alpha)


@dataclass(frozen=True)
class Gnmt:
    """Length penalty ((5 + length) / 6) ** alpha.

    GNMT 形式的长度惩罚。

    Errors are those of `Power`.
    Source: Wu et al. 2016, Google's Neural Machine Translation System, arXiv 1609.08144.
    """

    alpha: float = 0.6

    def __post_init__(self) -> None:
        _check_exponent(self.alpha)

    def __call__(self, length: int) -> float:
        return float(((5 + length) / 6) ** self.alpha)


def _check_exponent(alpha: float) -> None:
    if not -50 <= alpha <= 50:
        raise UserError(f"expected a length penalty from -50 to 50 (the exponent of the length), got {alpha}")


@dataclass(frozen=True)
class Beam:
    """Keeps the `beams` best unfinished paths of each prompt, and a pool of the finished ones.

    束搜索：保留若干最优未完成路径，并另存已完成者。

        score(y) = sum_t log p(y_t | y_<t) / penalty(|y|)

    At each step all extensions of a prompt's paths are ranked by summed log-probability. Those that end, and
    rank among the first `beams`, go to the pool; the best `beams` others live on. A hypothesis that
    `maximum_length` cut is given only where fewer than `results` have finished.

    `stopping` says when a prompt's search is over:
    - "sound": when no live path can still enter the first `results` of the pool. As log p <= 0 and the
      penalty is monotonic, no extension of a path of sum s and length t scores more than
      max(s / penalty(t + 1), s / penalty(maximum_length)). The result is that of a search that never stops.
    - "full": when the pool holds `beams` hypotheses. Faster; later and better ones are missed.
    - "heuristic": when the pool holds `beams`, and the best live sum over the penalty of its present length
      is below the worst of them: what transformers calls early_stopping=False.

    Raises UserError for results outside 1..beams, or an unknown stopping rule.

    Differs from transformers: hypotheses cut at the maximum length do not compete with finished ones.
    """

    beams: int = 4
    results: int = 1
    penalty: LengthPenalty = Power(1.0)
    stopping: Literal["sound", "full", "heuristic"] = "sound"

    def __post_init__(self) -> None:
        if not 1 <= self.results <= self.beams:
            raise UserError(f"expected 1 <= results <= beams, got results={self.results}, beams={self.beams}")
        if self.stopping not in ("sound", "full", "heuristic"):
            raise UserError(f"expected stopping 'sound', 'full' or 'heuristic', got {self.stopping!r}")

    def propose(self, scores: Scores, searches: Sequence[Search]) -> list[list[Proposal]]:
        """The best beams + 1 of each row hold the best `beams` that do not end, for only one of them ends.

        A stop condition may end several: then each row proposes 2 * beams, and where more than half of them
        end the beam is narrower for a while.
        """
        stops = any(search.limits.stop is not None for search in searches)
        return scores.best(self.beams + (self.beams if stops else 1))

    def settle(self, search: Search, candidates: list[Candidate]) -> list[Path]:
        """Splits the ranked extensions into pool and live paths."""
        paths = [search.extend(candidate) for candidate in sorted(candidates)[: 2 * self.beams]]
        search.finished += [path for path in paths[: self.beams] if search.ended(path)]
        search.finished = sorted(search.finished, key=self.score, reverse=True)[: self.beams]
        live = [path for path in paths if not search.ended(path)][: self.beams]
        if not live and not search.finished:
            search.dead_end()
        return [] if live and self.over(search, live[0]) else live

    def over(self, search: Search, best: Path) -> bool:
        """Whether the search stops, `best` being the live path of the greatest sum."""
        needed = self.results if self.stopping == "sound" else self.beams
        if len(search.finished) < needed:
            return False
        length, longest = len(best.tokens), search.limits.maximum_length
        attainable = {
            "sound": max(best.log_probability / self.penalty(n) for n in (length + 1, longest)),
            "heuristic": best.log_probability / self.penalty(length),
            "full": -math.inf,
        }
        return self.score(search.finished[needed - 1]) >= attainable[self.stopping]

    def score(self, path: Path) -> float:
        """The summed log-probability over the length penalty."""
        return path.log_probability / self.penalty(len(path.tokens))

    def hypotheses(self, search: Search) -> list[Hypothesis]:
        """Finished hypotheses first, then those that were cut; each kind best first."""
        finished = search.finished[: self.results]
        cut = sorted(search.live, key=self.score, reverse=True)[: self.results - len(finished)]
        given = [search.hypothesis(path, self.score(path), True) for path in finished]
        return given + [search.hypothesis(path, self.score(path), False) for path in cut]
