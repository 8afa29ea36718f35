"""Contrastive search: a probable token whose hidden state is unlike all that came before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.decode.generate import score
from hanformer.decode.protocols import StateT
from hanformer.decode.search import Hypothesis
from hanformer.errors import UserError

Advance = Callable[[Tensor, StateT], Tensor]
"""`advance(tokens [R, T], state) -> hidden [R, T, C]`: a step that stops before the vocabulary head.

只到隐状态为止的 step。
"""


@dataclass(frozen=True)
class Contrastive:
    """How contrastive search weighs. 对比搜索的参数。

        y_t = argmax over the k most probable v of (1 - alpha) p(v) - alpha max_(j<t) cos(h_v, h_j)

    alpha = 0 is greedy decoding. Raises UserError unless 0 <= alpha <= 1 and k >= 1.

    Source: Su et al. 2022, arXiv 2202.06417.
    """

    alpha: float = 0.6
    k: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or self.k < 1:
            raise UserError(f"expected 0 <= alpha <= 1 and k >= 1, got {self.alpha} and {self.k}")

    def choose(self, probabilities: Tensor, hidden: Tensor, seen: Tensor, real: Tensor) -> Tensor:
        """Which of K candidates: p [R, K], unit hidden [R, K, C], those seen [R, L, C], bool [R, L] -> [R]."""
        likeness = hidden @ seen.transpose(1, 2)
        likeness = likeness.masked_fill(~real[:, None], -math.inf).amax(-1)
        values = (1 - self.alpha) * probabilities - self.alpha * likeness
        return values.masked_fill(probabilities == 0, -math.inf).argmax(-1)


@dataclass
class _Row:
    prompt: int
    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0


@torch.no_grad()
def contrastive_search(
    advance: Advance[StateT],
    head: Callable[[Tensor], Tensor],
    state: StateT,
    hidden: Sequence[Tensor],
    *,
    rule: Contrastive,
    end_id: int,
    maximum_length: int,
    minimum_length: int = 1,
    allowed: Tensor | None = None,
) -> list[Hypothesis]:
    """Continues B prompts, one hypothesis each, looking one token ahead along k ways in one pass.

    对比搜索：一次前向同时试探 k 个候选，每个提示返回一个结果。

    `hidden` are the states [L, C] of each prompt's tokens, the last of them giving the first logits by
    `head` ([M, C] to [M, V]); `state` holds one row a prompt, and is that of `last` whenever the head is asked.
    Limits and scores as in `generate`; `allowed` (bool [V]) are the tokens that may be written. Raises UserError for
    empty prompts, impossible limits, logits that are no numbers, or where no token is possible.
    """
    if not 0 <= minimum_length <= maximum_length or maximum_length < 1 or any(not len(h) for h in hidden):
        raise UserError("expected prompts of at least one token, and 0 <= minimum_length <= maximum_length")
    found: list[Hypothesis] = [Hypothesis((), 0.0, False)] * len(hidden)
    rows = [_Row(prompt) for prompt in range(len(hidden))]
    seen, real, last = _context(hidden) if hidden else (torch.empty(0),) * 3
    for length in range(maximum_length if rows else 0):
        forbidden = end_id if length < minimum_length else None
        logits, normaliser = _scores(head(last), allowed, forbidden, rows)
        log_p, tokens = (logits - normaliser[:, None]).topk(min(rule.k, logits.shape[-1]), dim=-1)
        count = tokens.shape[1]
        state.select(torch.arange(len(rows)).repeat_interleave(count))
        ahead = advance(tokens.flatten()[:, None], state)[:, 0].unflatten(0, (len(rows), count))
        chosen = rule.choose(log_p.exp(), _unit(ahead), seen, real)
        _append(rows, tokens, log_p, chosen)
        kept = _finish(rows, found, end_id)
        places = torch.tensor(kept, dtype=torch.long, device=chosen.device)
        state.select((places * count + chosen[places]).cpu())
        last = ahead[places, chosen[places]]
        seen = torch.cat([seen[places], _unit(last)[:, None]], dim=1)
        real = torch.cat([real[places], real.new_ones(len(kept), 1)], dim=1)
        rows = [rows[place] for place in kept]
        if not rows:
            break
    for row in rows:
        found[row.prompt] = Hypothesis(row.tokens, row.log_probability, False)
    return found


def _context(hidden: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Unit states [B, L, C] padded on the right, which are real [B, L], and the last real ones [B, C]."""
    seen = torch.nn.utils.rnn.pad_sequence([_unit(each) for each in hidden], batch_first=True)
    lengths = torch.tensor([len(each) for each in hidden], device=seen.device)
    real = torch.arange(seen.shape[1], device=seen.device) < lengths[:, None]
    return seen, real, torch.stack([each[-1] for each in hidden])


def _unit(hidden: Tensor) -> Tensor:
    wide = hidden if hidden.dtype == torch.float64 else hidden.float()
    return torch.nn.functional.normalize(wide, dim=-1)


def _scores(
    logits: Tensor, allowed: Tensor | None, forbidden: int | None, rows: Sequence[_Row]
) -> tuple[Tensor, Tensor]:
    scores = score(logits, allowed, forbidden, False)
    empty = scores.logits.isneginf().all(-1).tolist()
    if any(empty):
        prompt = rows[empty.index(True)].prompt
        raise UserError(f"prompt {prompt}: expected a possible token, but every one has probability zero")
    return scores.logits, scores.normaliser


def _append(rows: Sequence[_Row], tokens: Tensor, log_p: Tensor, chosen: Tensor) -> None:
    picked = tokens.gather(1, chosen[:, None])[:, 0].tolist()
    costs = log_p.gather(1, chosen[:, None])[:, 0].tolist()
    for row, token, value in zip(rows, picked, costs, strict=True):
        row.tokens, row.log_probability = (*row.tokens, token), row.log_probability + value


def _finish(rows: Sequence[_Row], found: list[Hypothesis], end_id: int) -> list[int]:
    """Records the rows that have ended; the places of the others."""
    for row in rows:
        if row.tokens[-1] == end_id:
            found[row.prompt] = Hypothesis(row.tokens[:-1], row.log_probability, True)
    return [place for place, row in enumerate(rows) if row.tokens[-1] != end_id]
