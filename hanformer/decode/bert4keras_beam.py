"""The beam search of bert4keras' AutoRegressiveDecoder, to reproduce its outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hanformer.decode.search import Candidate, Hypothesis, Path, Proposal, Scores, Search
from hanformer.errors import UserError


@dataclass(frozen=True)
class Bert4kerasBeam:
    """Beam search as bert4keras does it: no length penalty, and no pool of finished hypotheses.

    bert4keras 的束搜索规则：无长度惩罚，丢弃非最优的已完成假设。

        score(y) = sum_t log(p(y_t | y_<t) + 1e-12)

    A path is complete when it ends with the end token and holds `minimum_ends` of them, or a stop condition
    finishes it, and it is at least `minimum_length` tokens long (the end tokens count). When the best path
    is complete, it is the result; otherwise the complete ones are dropped for good and the beam narrows by
    as many. At the maximum length the best path is the result. The end token is not forbidden before the
    minimum lengths, it only closes nothing there: call `generate` with `minimum_length=0`, for its default
    forbids an end at the first step. bert4keras counts a start token in its own minlen; here it belongs to
    the prompt.

    Raises UserError for fewer than one beam or end.

    Source: bert4keras 0.11.5, snippets.py. Prefer `Beam`, which keeps what has finished.
    """

    beams: int = 4
    minimum_ends: int = 1
    minimum_length: int = 0

    def __post_init__(self) -> None:
        if self.beams < 1 or self.minimum_ends < 1:
            raise UserError(f"expected at least 1 beam and 1 end, got {self.beams} and {self.minimum_ends}")

    def propose(self, scores: Scores, searches: Sequence[Search]) -> list[list[Proposal]]:
        """The best `beams` of each row, log p floored as bert4keras floors it."""
        return [
            [(math.log(math.exp(value) + 1e-12), token) for value, token in row if value > -math.inf]
            for row in scores.best(self.beams)
        ]

    def settle(self, search: Search, candidates: list[Candidate]) -> list[Path]:
        """The best paths, unless the very best is complete."""
        width = len(search.live) if search.length else self.beams
        paths = [search.extend(candidate) for candidate in sorted(candidates)[:width]]
        if not paths:
            search.dead_end()
        if not self.complete(search, paths[0]):
            return [path for path in paths if not self.complete(search, path)]
        search.finished.append(paths[0])
        return []

    def complete(self, search: Search, path: Path) -> bool:
        """Whether the path may be given back as finished."""
        end = search.limits.end_id
        enough = path.tokens[-1] != end or path.tokens.count(end) >= self.minimum_ends
        return search.ended(path) and enough and len(path.tokens) >= self.minimum_length

    def hypotheses(self, search: Search) -> list[Hypothesis]:
        """One hypothesis, scored by its sum."""
        for path in search.finished:
            return [search.hypothesis(path, path.log_probability, True)]
        best = max(search.live, key=lambda path: path.log_probability)
        return [search.hypothesis(best, best.log_probability, False)]
