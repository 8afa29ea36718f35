"""Diverse beam search: groups of beams that keep away from each other's tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from hanformer.decode.beam import Beam, LengthPenalty, Power
from hanformer.decode.search import Candidate, Hypothesis, Path, Proposal, Scores, Search
from hanformer.errors import UserError

MEAN: Final[LengthPenalty] = Power(1.0)
"""Scores are means per token. 按每词元平均计分。"""


@dataclass(frozen=True)
class DiverseBeam:
    """Beam searches in `groups`, one after the other at each step, each paying for what earlier ones chose.

    分组的多样束搜索：后面的组为前面各组在同一步选过的词元付出汉明惩罚。

        group g ranks by sum_t [ log p(y_t | y_<t) - strength * n_t(y_t) ]
        n_t(v): live beams of the groups before g that took v at step t

    Each group is a `Beam` of beams / groups of its own, with its pool and its stopping; what it has paid stays
    in its sums, and so in the scores that are given back. The results are the best of all groups. One group,
    or strength zero for each group, is plain beam search.

    Raises UserError unless the groups divide the beams, and for a negative strength or impossible results.

    Source: Vijayakumar et al. 2016, arXiv 1610.02424.
    """

    beams: int = 4
    groups: int = 2
    strength: float = 0.5
    results: int = 1
    penalty: LengthPenalty = MEAN
    stopping: Literal["sound", "full", "heuristic"] = "sound"

    def __post_init__(self) -> None:
        if self.groups < 1 or self.beams < 1 or self.beams % self.groups:
            raise UserError(
                f"expected groups that divide the beams, got {self.groups} groups of {self.beams} beams"
            )
        if not 0 <= self.strength < math.inf:
            raise UserError(f"expected a finite strength of at least 0, got {self.strength}")
        if not 1 <= self.results <= self.beams:
            raise UserError(f"expected 1 <= results <= beams, got {self.results} and {self.beams}")
        Beam(self.beams, self.results, self.penalty, self.stopping)  # refuses an unknown stopping rule

    @property
    def beam(self) -> Beam:
        """The search of one group."""
        size = self.beams // self.groups
        return Beam(size, size, self.penalty, self.stopping)

    def propose(self, scores: Scores, searches: Sequence[Search]) -> list[list[Proposal]]:
        """Fewer than `beams` tokens are made dearer, so the best 2 * beams + 1 hold what a group may choose."""
        return scores.best(2 * self.beams + 1)

    def settle(self, search: Search, candidates: list[Candidate]) -> list[Path]:
        """Settles the groups in turn."""
        taken: Counter[int] = Counter()
        paths: list[Path] = []
        first = search.length == 0
        for group in range(self.groups):
            places = [place for place, path in enumerate(search.live) if first or path.number == group]
            if not places:
                continue
            view = self._view(search, group, places)
            dearer = self._dearer(candidates, places, taken)
            chosen = [replace(path, number=group) for path in self.beam.settle(view, dearer)]
            others = [path for path in search.finished if path.number != group]
            search.finished = others + [replace(path, number=group) for path in view.finished]
            taken.update(path.tokens[-1] for path in chosen)
            paths += [replace(path, parent=places[path.parent]) for path in chosen]
        return paths

    def hypotheses(self, search: Search) -> list[Hypothesis]:
        """The finished hypotheses of all groups, then those that were cut; each kind best first."""
        found: list[Hypothesis] = []
        for group in range(self.groups):
            places = [place for place, path in enumerate(search.live) if path.number == group]
            found += self.beam.hypotheses(self._view(search, group, places))
        found.sort(key=lambda hypothesis: (not hypothesis.finished, -hypothesis.score))
        return found[: self.results]

    def _view(self, search: Search, group: int, places: Sequence[int]) -> Search:
        """The group's part of the search."""
        finished = [path for path in search.finished if path.number == group]
        return Search(search.prompt, search.limits, [search.live[place] for place in places], finished)

    def _dearer(
        self, candidates: Sequence[Candidate], places: Sequence[int], taken: Counter[int]
    ) -> list[Candidate]:
        """The group's candidates, counted from its own first path, with what they must pay."""
        local = {place: number for number, place in enumerate(places)}
        return [
            (cost + self.strength * taken[token], local[parent], token)
            for cost, parent, token in candidates
            if parent in local
        ]
