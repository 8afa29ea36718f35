"""Rebalanced encoding: pairs that follow each other too surely become one token, which lowers the risk of loops.

再平衡编码：把转移概率过高的词元对合并为一个词元，以降低重复风险。
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from hanformer.errors import UserError

Piece = tuple[str, ...]
"""A token of the new encoding: the old tokens that it stands for. 合并后的词元，即若干原词元。"""
Pair = tuple[Piece, Piece]


@dataclass(frozen=True)
class Rebalanced:
    """The pairs that each round merged, and the greatest p(b | a) that is left.

    每轮合并的词元对，以及剩余的最大转移概率。
    """

    rounds: tuple[frozenset[Pair], ...]
    greatest: float

    def encode(self, tokens: Sequence[str]) -> list[Piece]:
        """The tokens with the merges of all rounds, from the left. 编码。"""
        pieces: list[Piece] = [(token,) for token in tokens]
        for merges in self.rounds:
            pieces = merged(pieces, merges)
        return pieces

    @staticmethod
    def decode(pieces: Iterable[Piece]) -> list[str]:
        """The tokens again. 还原。"""
        return list(chain.from_iterable(pieces))


def rebalance(texts: Iterable[Sequence[str]], gamma: float = 0.1, rounds: int = 10) -> Rebalanced:
    """Learns what to merge: in every round all pairs whose conditional probability exceeds gamma.

    学习再平衡编码：每轮合并条件概率超过 gamma 的所有词元对。

        p(b | a) = (count(a b) + 1) / (count(a) + V),  V different tokens

    Ends when no pair exceeds gamma, or after so many rounds. Raises UserError unless 0 < gamma < 1 and rounds >= 0.
    Source: Fu et al. 2020, arXiv 2012.14660; kexue.fm/archives/8128.
    """
    if not 0 < gamma < 1 or rounds < 0:
        raise UserError(f"expected gamma between 0 and 1, and rounds >= 0, got {gamma} and {rounds}")
    pieces: list[list[Piece]] = [[(token,) for token in text] for text in texts]
    done: list[frozenset[Pair]] = []
    probabilities = pair_probabilities(pieces)
    for _ in range(rounds):
        merges = frozenset(pair for pair, value in probabilities.items() if value > gamma)
        if not merges:
            break
        done.append(merges)
        pieces = [merged(text, merges) for text in pieces]
        probabilities = pair_probabilities(pieces)
    return Rebalanced(tuple(done), max(probabilities.values(), default=0.0))


def pair_probabilities(texts: Sequence[Sequence[Piece]]) -> dict[Pair, float]:
    """p(b | a) of every pair that occurs, add-one smoothed. 各词元对的加一平滑条件概率。"""
    counts = Counter(chain.from_iterable(texts))
    pairs = Counter(chain.from_iterable(map(pairwise, texts)))
    return {(a, b): (number + 1) / (counts[a] + len(counts)) for (a, b), number in pairs.items()}


def merged(pieces: Sequence[Piece], merges: frozenset[Pair]) -> list[Piece]:
    """Pairs from the left become one piece; what was merged waits for the next round. 从左到右合并。"""
    found: list[Piece] = []
    place = 0
    while place < len(pieces):
        pair = tuple(pieces[place : place + 2])
        joined = pair in merges
        found.append(pair[0] + pair[1] if joined else pieces[place])
        place += 2 if joined else 1
    return found
