"""Why text repeats: the repetition measure of a bigram model with its bounds, and metrics of written text.

文本为何重复：二元模型的重复度及其上下界，以及生成文本的重复指标。
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hanformer.errors import UserError


@dataclass(frozen=True)
class RepetitionRisk:
    """The measure R of a transition matrix, the root mu of its squares, and bounds of R for the share zeta = 1.

    重复度 R、平方矩阵的谱半径，以及上下界。
    """

    measure: float
    root: float
    lower_by_trace: float
    lower_by_diagonal: float
    upper: float


def repetition_risk(transitions: Tensor) -> RepetitionRisk:
    """How much a first-order model repeats itself; infinite where some cycle is certain.

    一阶模型的重复风险。

        R = sum_(k>=1) Tr((P∘P)^k) = Tr[(P∘P)(I - P∘P)^-1],  mu the spectral radius of P∘P
        (Tr P^k)^2 / n^k and Tr(P^k∘P^k) / n^(k-1), summed over k, <= R <= n mu / (1 - mu)

    `transitions` [n, n] are the probabilities among tokens that do not end the text: rows sum to at most 1.
    Raises UserError for anything else. Source: kexue.fm/archives/8128.
    """
    matrix = _checked(transitions)
    size, squares = len(matrix), matrix * matrix
    root = float(torch.linalg.eigvals(squares).abs().max())
    if root >= 1 - 1e-12:
        return RepetitionRisk(math.inf, root, *_lower_bounds(matrix), math.inf)
    resolvent = torch.linalg.solve(torch.eye(size, dtype=matrix.dtype) - squares, squares)
    return RepetitionRisk(float(resolvent.trace()), root, *_lower_bounds(matrix), size * root / (1 - root))


def _lower_bounds(matrix: Tensor) -> tuple[float, float]:
    """The two series; a certain cycle of one token alone (n = 1) makes them infinite."""
    size, power, by_trace, by_diagonal = len(matrix), matrix, 0.0, 0.0
    if size == 1 and float(matrix) == 1:
        return math.inf, math.inf
    for length in range(1, 100_000):
        scale = float(size) ** -length
        trace = float(power.trace()) ** 2 * scale
        diagonal = float((power.diagonal() ** 2).sum()) * scale * size
        by_trace, by_diagonal = by_trace + trace, by_diagonal + diagonal
        # No later term is greater than this: traces of sub-stochastic matrices are at most n.
        if size * size * scale < 1e-17 or float(power.max()) < 1e-12:
            break
        power = power @ matrix
    return by_trace, by_diagonal


def _checked(transitions: Tensor) -> Tensor:
    if transitions.dim() != 2 or transitions.shape[0] != transitions.shape[1] or not len(transitions):
        raise UserError(f"expected a square transition matrix, got {list(transitions.shape)}")
    matrix = transitions.detach().double().cpu()
    if not bool((matrix >= 0).all() & (matrix.sum(1) <= 1 + 1e-6).all()):
        raise UserError("expected transition probabilities >= 0 whose rows sum to at most 1")
    return matrix


def repeated_in_window(tokens: Sequence[Hashable], window: int = 16) -> float:
    """rep-w: the share of tokens that occur among the `window` tokens before them. 窗口内重复率。"""
    repeats = (token in tokens[max(0, place - window) : place] for place, token in enumerate(tokens))
    return sum(repeats) / max(1, len(tokens))


def repeated_ngrams(tokens: Sequence[Hashable], longest: int = 4) -> float:
    """seq-rep-n: 1 - different / all, over the n-grams of 1 to `longest` tokens together. n 元组重复率。"""
    grams = [
        tuple(tokens[place : place + size])
        for size in range(1, longest + 1)
        for place in range(len(tokens) - size + 1)
    ]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def repeated_bigrams(tokens: Sequence[Hashable]) -> float:
    """rep-r: the share of tokens that lie in a bigram which occurs more than once. 重复二元组覆盖率。"""
    pairs = list(pairwise(tokens))
    counts = Counter(pairs)
    covered = {place + side for place, pair in enumerate(pairs) if counts[pair] > 1 for side in (0, 1)}
    return len(covered) / max(1, len(tokens))
