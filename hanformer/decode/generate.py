"""The one loop of decoding: score, let the rule settle, move the rows, step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.decode.feed import Draft, Feed
from hanformer.decode.protocols import Constraint, StateT, Step
from hanformer.decode.search import (
    Candidate,
    Filter,
    Hypothesis,
    Limits,
    Path,
    Proposal,
    Row,
    Rule,
    Scores,
    Search,
    Stop,
    rows_of,
)
from hanformer.errors import UserError


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
    filters: Sequence[Filter] = (),
    stop: Stop | None = None,
    draft: Draft | None = None,
    interrupt: Callable[[], bool] | None = None,
) -> list[list[Hypothesis]]:
    """Continues B prompts together, and gives back the hypotheses of each, best first.

    批量续写 B 个提示，返回每个提示的若干假设（最优在前）。

    `first_logits` [B, V] are the logits after each prompt, and `state` holds one row a prompt; the state and
    the constraint are used up. At most `maximum_length` tokens are generated for a prompt, the end token
    counted, and `minimum_length` before the end token is allowed. Prompts whose search is over leave the
    batch, and rows are moved only when some row changes. Results do not depend on the batch.

    `filters` reshape the model's logits before anything else, one after the other. Scores are log-softmax
    over the whole vocabulary, in float32 (float64 where the logits are), with -inf for disallowed tokens
    afterwards: forbidding tokens never changes what the others cost. With `renormalise` the softmax runs
    over the allowed tokens alone. Sums are kept in float64.

    `stop(tokens)` finishes a path that no end token closes, and its tokens stay in the hypothesis. `draft`
    guesses tokens ahead, and the results are those without it. Once `interrupt()` is true after a step, the
    search ends there, and what is unfinished is given back as it is.

    Raises UserError for logits that are not a number or infinite, for shapes that do not fit (also those
    that the step, a filter or the constraint returns), for impossible limits, and, naming the prompt, where
    no allowed token is left.
    """
    last: Sequence[Search] = ()
    for searches in stream(
        step,
        state,
        first_logits,
        rule=rule,
        end_id=end_id,
        maximum_length=maximum_length,
        constraint=constraint,
        minimum_length=minimum_length,
        renormalise=renormalise,
        filters=filters,
        stop=stop,
        draft=draft,
    ):
        last = searches
        if interrupt is not None and interrupt():
            break
    return [rule.hypotheses(search) for search in last]


def stream(
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
    filters: Sequence[Filter] = (),
    stop: Stop | None = None,
    draft: Draft | None = None,
) -> Iterator[Sequence[Search]]:
    """`generate` that shows the searches of all prompts after every step.

    逐步返回搜索状态的 `generate`。

    The searches are the same objects each time: `live` and `finished` are what has been found so far, and
    `rule.hypotheses(search)` is valid at any of the moments. Leave the iteration when you like.
    """
    _check(first_logits, end_id, minimum_length, maximum_length)
    scoring = Scoring(end_id, minimum_length, renormalise, tuple(filters), constraint)
    limits = Limits(end_id, maximum_length, stop)
    searches = [Search(prompt, limits) for prompt in range(len(first_logits))]
    return _steps(Feed(step, state, constraint, draft), scoring, rule, searches, first_logits)


@torch.no_grad()
def _steps(
    feed: Feed[StateT], scoring: Scoring, rule: Rule, searches: list[Search], logits: Tensor
) -> Iterator[Sequence[Search]]:
    active, maximum_length = searches, searches[0].limits.maximum_length if searches else 0
    for length in range(maximum_length):
        scores = scoring(logits, active)
        parents = settle(rule, scores, active)
        active = [search for search in active if search.live]
        yield searches
        if not active or length + 1 == maximum_length:
            return
        logits = feed(active, parents, logits)


@dataclass(frozen=True)
class Scoring:
    """What a token costs: filtered, masked and normalised logits."""

    end_id: int
    minimum_length: int
    renormalise: bool
    filters: tuple[Filter, ...]
    constraint: Constraint | None

    def __call__(self, logits: Tensor, active: Sequence[Search]) -> Scores:
        """The scores [R, V] of the live paths' next tokens."""
        forbidden = self.end_id if active[0].length < self.minimum_length else None
        filtered = self._filter(logits, rows_of(active)) if self.filters else logits
        return score(filtered, _allowed(self.constraint, logits), forbidden, self.renormalise)

    def _filter(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        # A filter could hide what is wrong with the model.
        logits = _wide(logits)
        _normaliser(logits)
        for each in self.filters:
            filtered = each(logits, rows)
            if filtered.shape != logits.shape:
                raise UserError(
                    f"expected the filter {each!r} to return logits {list(logits.shape)}, "
                    f"got {list(filtered.shape)}"
                )
            logits = filtered
        return logits


def score(logits: Tensor, allowed: Tensor | None, forbidden: int | None, renormalise: bool) -> Scores:
    """Masked logits [R, V] and their normaliser [R], taken before the masks unless `renormalise`."""
    logits = _wide(logits)
    normaliser = _normaliser(logits)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    if forbidden is not None:
        logits = logits.index_fill(-1, torch.tensor([forbidden], device=logits.device), -math.inf)
    if renormalise and not (allowed is None and forbidden is None):
        normaliser = logits.logsumexp(-1)
    # A row with nothing allowed keeps -inf everywhere instead of -inf - -inf = NaN.
    return Scores(logits, normaliser.masked_fill(normaliser.isneginf(), 0.0))


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _normaliser(logits: Tensor) -> Tensor:
    normaliser = logits.logsumexp(-1)
    if bool((normaliser.isnan() | normaliser.isposinf()).any()):
        raise UserError(
            "expected finite logits (or -inf for impossible tokens), got NaN or +inf; "
            "check the weights and the precision of the model or step function"
        )
    return normaliser


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
