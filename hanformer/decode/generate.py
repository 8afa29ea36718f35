"""The one loop of decoding: score, let the rule settle, move the rows, step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hanformer.decode.protocols import Constraint, State, StateT, Step
from hanformer.decode.search import Candidate, Hypothesis, Limits, Path, Proposal, Rule, Scores, Search
from hanformer.errors import UserError


@torch.no_grad()
def generate(
    step: Step[StateT],
    state: StateT,
    first_logits: Tensor,
    *,
    rule: Rule,
    end_id: int,
    maximum_length: int,
    constraint: Constraint | None = None,
    minimum_length: int = 1,
    renormalise: bool = False,
) -> list[list[Hypothesis]]:
    """Continues B prompts together, and gives back the hypotheses of each, best first.

    批量续写 B 个提示，返回每个提示的若干假设（最优在前）。

    `first_logits` [B, V] are the logits after each prompt, and `state` holds one row a prompt; the state and
    the constraint are used up. At most `maximum_length` tokens are generated for a prompt, the end token
    counted, and `minimum_length` before the end token is allowed. Prompts whose search is over leave the
    batch, and rows are moved only when some row changes. Results do not depend on the batch.

    Scores are log-softmax over the whole vocabulary, in float32 (float64 where the logits are), with -inf
    for disallowed tokens afterwards: forbidding tokens never changes what the others cost. With
    `renormalise` the softmax runs over the allowed tokens alone. Sums are kept in float64.

    Raises UserError for logits that are not a number or infinite, for shapes that do not fit (also those
    that the step or the constraint returns), for impossible limits, and, naming the prompt, where no allowed
    token is left.
    """
    _check(first_logits, end_id, minimum_length, maximum_length)
    limits = Limits(end_id, maximum_length)
    searches = [Search(prompt, limits) for prompt in range(len(first_logits))]
    active, logits = searches, first_logits
    for length in range(maximum_length if searches else 0):
        forbidden_end = end_id if length < minimum_length else None
        scores = score(logits, _allowed(constraint, logits), forbidden_end, renormalise)
        parents = settle(rule, scores, active)
        active = [search for search in active if search.live]
        if not active or length + 1 == maximum_length:
            break
        tokens = torch.tensor([path.tokens[-1] for search in active for path in search.live])
        _move(state, constraint, parents, len(logits))
        if constraint is not None:
            constraint.advance(tokens)
        logits = _step(step, state, tokens, logits)
    return [rule.hypotheses(search) for search in searches]


def score(logits: Tensor, allowed: Tensor | None, forbidden: int | None, renormalise: bool) -> Scores:
    """Masked logits [R, V] and their normaliser [R], taken before the masks unless `renormalise`."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    normaliser = logits.logsumexp(-1)
    if bool((normaliser.isnan() | normaliser.isposinf()).any()):
        raise UserError(
            "expected finite logits (or -inf for impossible tokens), got NaN or +inf; "
            "check the weights and the precision of the model or step function"
        )
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    if forbidden is not None:
        logits = logits.index_fill(-1, torch.tensor([forbidden], device=logits.device), -math.inf)
    normaliser = logits.logsumexp(-1) if renormalise else normaliser
    # A row with nothing allowed keeps -inf everywhere instead of -inf - -inf = NaN.
    return Scores(logits, normaliser.masked_fill(normaliser.isneginf(), 0.0))


def settle(rule: Rule, scores: Scores, active: Sequence[Search]) -> list[int]:
    """Lets the rule settle every search; the row of the batch that each live path comes from."""
    proposals, parents, start = rule.propose(scores, active), [], 0
    for search in active:
        rows = len(search.live)
        paths = rule.settle(search, _candidates(search, proposals[start : start + rows]))
        search.live = in_place(paths)
        parents += [start + path.parent for path in search.live]
        start += rows
    return parents


def in_place(paths: Sequence[Path]) -> list[Path]:
    """Reorders paths so that those that can stay in their parent's row do: fewer rows of the state change."""
    slots: list[Path | None] = [None] * len(paths)
    others = []
    for path in paths:
        if path.parent < len(slots) and slots[path.parent] is None:
            slots[path.parent] = path
        else:
            others.append(path)
    waiting = iter(others)
    return [next(waiting) if slot is None else slot for slot in slots]


def _candidates(search: Search, proposals: Sequence[Sequence[Proposal]]) -> list[Candidate]:
    return [
        (-path.log_probability - value, parent, token)
        for parent, (path, row) in enumerate(zip(search.live, proposals, strict=True))
        for value, token in row
        if value > -math.inf
    ]


def _allowed(constraint: Constraint | None, logits: Tensor) -> Tensor | None:
    if constraint is None:
        return None
    allowed = constraint.allowed()
    if allowed.dtype != torch.bool or allowed.shape != logits.shape:
        raise UserError(
            f"expected the constraint to allow a bool tensor {list(logits.shape)} (rows, vocabulary), "
            f"got {allowed.dtype} {list(allowed.shape)}"
        )
    return allowed.to(logits.device)


def _move(state: State, constraint: Constraint | None, parents: list[int], rows: int) -> None:
    if parents == list(range(rows)):
        return
    selected = torch.tensor(parents)
    state.select(selected)
    if constraint is not None:
        constraint.select(selected)


def _step(step: Step[StateT], state: StateT, tokens: Tensor, previous: Tensor) -> Tensor:
    logits = step(tokens.to(previous.device)[:, None], state)
    expected = (len(tokens), 1, previous.shape[-1])
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"expected the step to return logits {list(expected)} (rows, 1, vocabulary), got {got}"
        )
    return logits[:, 0]


def _check(first_logits: Tensor, end_id: int, minimum_length: int, maximum_length: int) -> None:
    if first_logits.dim() != 2 or not first_logits.is_floating_point():
        raise UserError(
            "expected first_logits as a floating-point tensor [prompts, vocabulary], "
            f"got {first_logits.dtype} {list(first_logits.shape)}"
        )
    if not 0 <= end_id < first_logits.shape[1]:
        raise UserError(f"expected end_id in the vocabulary 0..{first_logits.shape[1] - 1}, got {end_id}")
    if not 0 <= minimum_length <= maximum_length or maximum_length < 1:
        raise UserError(
            "expected 0 <= minimum_length <= maximum_length and maximum_length >= 1, "
            f"got {minimum_length} and {maximum_length}"
        )
