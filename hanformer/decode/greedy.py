"""Greedy decoding: the most probable token, every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hanformer.decode.search import Candidate, Hypothesis, Path, Proposal, Scores, Search, follow_each


@dataclass(frozen=True)
class Greedy:
    """Takes the most probable allowed token at each step, the smaller id where two are equal.

    每一步取概率最大的允许词元，相等时取编号小者。

        y_t = argmax_v p(v | y_<t)

    The score is the sum of log p(y_t).
    """

    def propose(self, scores: Scores, searches: Sequence[Search]) -> list[list[Proposal]]:
        """One proposal a row, none where nothing is allowed."""
        tokens = scores.logits.argmax(-1)
        values = scores.logits.gather(-1, tokens[:, None])[:, 0] - scores.normaliser
        pairs = zip(values.tolist(), tokens.tolist(), strict=True)
        return [[(value, token)] for value, token in pairs]

    def settle(self, search: Search, candidates: list[Candidate]) -> list[Path]:
        """Follows the one path."""
        return follow_each(search, candidates)

    def hypotheses(self, search: Search) -> list[Hypothesis]:
        """One hypothesis."""
        finished = [search.hypothesis(path, path.log_probability, True) for path in search.finished]
        return finished + [search.hypothesis(path, path.log_probability, False) for path in search.live]
