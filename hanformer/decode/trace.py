"""What each token cost, and what stood beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.decode.generate import score
from hanformer.decode.protocols import StateT, Step
from hanformer.errors import UserError


@dataclass(frozen=True)
class TokenScore:
    """A token, its log-probability, its rank (0 is the most probable), and the best (log p, token) there.

    一个词元的对数概率、名次与候选。
    """

    token: int
    log_probability: float
    rank: int
    alternatives: tuple[tuple[float, int], ...]


@torch.no_grad()
def trace(
    step: Step[StateT],
    state: StateT,
    first_logits: Tensor,
    continuations: Sequence[Sequence[int]],
    alternatives: int = 0,
) -> list[list[TokenScore]]:
    """Scores given continuations of the prompts token by token, in one pass; the state is used up.

    一次前向为给定的续写逐词元打分，并列出各位置的候选。

    One continuation for each row of `first_logits` [R, V]; they may differ in length. Log-probabilities are
    the model's own, before filters and constraints; add the end token to score it too. Raises UserError for
    another number of continuations, ids outside the vocabulary, and logits that are no numbers.
    """
    _check(first_logits, continuations, alternatives)
    longest = max(map(len, continuations), default=0)
    if not longest:
        return [[] for _ in continuations]
    rows = [[*tokens, *[0] * (longest - len(tokens))] for tokens in continuations]
    table = torch.tensor(rows, device=first_logits.device)
    logits = first_logits[:, None]
    if longest > 1:
        logits = torch.cat([logits, step(table[:, :-1], state).to(logits)], dim=1)
    lengths = [len(tokens) for tokens in continuations]
    return [
        _row(logits[row, :length], table[row, :length], alternatives) for row, length in enumerate(lengths)
    ]


def _row(logits: Tensor, tokens: Tensor, alternatives: int) -> list[TokenScore]:
    if not len(tokens):
        return []
    scores = score(logits, None, None, False)
    log_p = scores.logits - scores.normaliser[:, None]
    own = log_p.gather(-1, tokens[:, None])
    ranks = (log_p > own).sum(-1).tolist()
    best = scores.best(alternatives) if alternatives else [[]] * len(tokens)
    values = zip(tokens.tolist(), own[:, 0].tolist(), ranks, best, strict=True)
    return [TokenScore(token, value, rank, tuple(beside)) for token, value, rank, beside in values]


def _check(first_logits: Tensor, continuations: Sequence[Sequence[int]], alternatives: int) -> None:
    if len(continuations) != len(first_logits) or alternatives < 0:
        raise UserError(
            f"expected {len(first_logits)} continuations and alternatives >= 0, "
            f"got {len(continuations)} and {alternatives}"
        )
    size = first_logits.shape[-1]
    outside = [token for tokens in continuations for token in tokens if not 0 <= token < size]
    if outside:
        raise UserError(f"expected token ids in 0..{size - 1}, got {outside[0]}")
