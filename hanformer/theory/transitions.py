"""A bigram model of texts: which token follows which. 文本的二元转移矩阵。"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from torch import Tensor

from hanformer.errors import UserError


@dataclass(frozen=True, eq=False)
class Transitions:
    """The probabilities p(b | a) among the most frequent tokens, float64 [n, n], and the tokens by frequency.

    最常见词元之间的转移概率及词元表。

    Rows sum to at most 1: the rest ends the text, or goes to rarer tokens. `coverage` is the share of all pairs that
    lie among these tokens.
    """

    tokens: tuple[str, ...]
    matrix: Tensor
    coverage: float


def transitions_of(texts: Iterable[Sequence[str]], most: int = 500, smoothing: float = 0.0) -> Transitions:
    """Counts pairs of neighbours in texts of tokens.

    统计相邻词元对，得到转移概率。

        p(b | a) = (count(a b) + s) / (count(a) + s V),  V different tokens, s the smoothing

    The last token of a text is followed by nothing, which counts in count(a). The `most` frequent tokens are kept,
    equals by their order as text. Raises UserError for texts without a pair, and for `most` or `smoothing` below what
    makes sense.
    """
    if most < 1 or not 0 <= smoothing < math.inf:
        raise UserError(
            f"expected at least 1 token and a finite smoothing of at least 0, got {most} and {smoothing}"
        )
    kept = [tuple(text) for text in texts]
    counts = Counter(chain.from_iterable(kept))
    pairs = Counter(chain.from_iterable(map(pairwise, kept)))
    if not pairs:
        raise UserError("expected texts of at least two tokens: nothing follows anything here")
    tokens = sorted(counts, key=lambda token: (-counts[token], token))[:most]
    place = {token: number for number, token in enumerate(tokens)}
    matrix = torch.full((len(tokens), len(tokens)), smoothing, dtype=torch.float64)
    inside = [(place[a], place[b], n) for (a, b), n in pairs.items() if a in place and b in place]
    if inside:
        first, second, numbers = zip(*inside, strict=True)
        matrix[list(first), list(second)] += torch.tensor(numbers, dtype=torch.float64)
    total = torch.tensor([counts[token] for token in tokens], dtype=torch.float64) + smoothing * len(counts)
    covered = sum(number for _, _, number in inside) / sum(pairs.values())
    return Transitions(tuple(tokens), matrix / total[:, None], covered)
