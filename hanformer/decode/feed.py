"""Feeding chosen tokens to the step: one a row, or with a draft of what may follow, checked in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic

import torch
from torch import Tensor

from hanformer.decode.protocols import Constraint, StateT, Step
from hanformer.decode.search import Row, Search, rows_of
from hanformer.errors import UserError

Draft = Callable[[Sequence[Row]], Sequence[Sequence[int]]]
"""Guesses how each row goes on; a guess costs nothing but time where it is wrong.

猜测各行的后续词元；猜错只费时间，不改变结果。
"""


def no_draft(rows: Sequence[Row]) -> Sequence[Sequence[int]]:
    """No guesses: one token a step. 不猜测。"""
    return [()] * len(rows)


class Feed(Generic[StateT]):
    """Gives the logits after the tokens that the rule chose, running the step only where it has to.

    With a draft the step reads the chosen token and the guesses after it in one pass. As long as every row
    chooses what was guessed, and no row moves, the logits are there already; at the first difference the
    state forgets the wrong guesses. The choices are those of the loop without a draft, up to the rounding of
    a pass over several tokens.
    """

    def __init__(
        self, step: Step[StateT], state: StateT, constraint: Constraint | None, draft: Draft | None
    ) -> None:
        self.step, self.state, self.constraint = step, state, constraint
        self.draft = no_draft if draft is None else draft
        self.steps_run = 0
        self._fed, self._ahead, self._used = torch.empty(0, 0), torch.empty(0, 0, 0), 0

    def __call__(self, active: Sequence[Search], parents: list[int], previous: Tensor) -> Tensor:
        """Logits [R', V] after the last token of every live path; row r continues the old row `parents[r]`."""
        tokens = torch.tensor([path.tokens[-1] for search in active for path in search.live])
        stays = parents == list(range(len(previous)))
        ready = stays and self._used < self._fed.shape[1]
        if ready and torch.equal(self._fed[:, self._used], tokens):
            self._advance(tokens)
        else:
            self._forget()
            self._move(None if stays else torch.tensor(parents))
            self._advance(tokens)
            self._run(active, tokens, previous)
        self._used += 1
        return self._ahead[:, self._used - 1]

    def _forget(self) -> None:
        wrong = self._fed.shape[1] - self._used
        if wrong:
            self.state.truncate(self.state.length - wrong)

    def _move(self, parents: Tensor | None) -> None:
        if parents is None:
            return
        self.state.select(parents)
        if self.constraint is not None:
            self.constraint.select(parents)

    def _advance(self, tokens: Tensor) -> None:
        if self.constraint is not None:
            self.constraint.advance(tokens)

    def _run(self, active: Sequence[Search], tokens: Tensor, previous: Tensor) -> None:
        # Nothing is read beyond the last token that could be fed without a draft.
        limits = active[0].limits
        room = limits.maximum_length - active[0].length - 1
        guesses = self.draft(rows_of(active))
        if len(guesses) != len(tokens):
            raise UserError(f"expected the draft to guess for {len(tokens)} rows, got {len(guesses)}")
        count = min(room, *map(len, guesses))
        self._fed = torch.cat([tokens[:, None], _table(guesses, count, previous.shape[-1])], dim=1)
        self._used = 0
        self._ahead = _checked(self.step(self._fed.to(previous.device), self.state), self._fed, previous)
        self.steps_run += 1


def _table(guesses: Sequence[Sequence[int]], count: int, size: int) -> Tensor:
    table = torch.tensor([list(guess[:count]) for guess in guesses], dtype=torch.long).view(
        len(guesses), count
    )
    if count and not 0 <= int(table.min()) <= int(table.max()) < size:
        raise UserError(f"expected drafted ids in 0..{size - 1}, got {int(table.min())}..{int(table.max())}")
    return table


def _checked(logits: object, fed: Tensor, previous: Tensor) -> Tensor:
    expected = (*fed.shape, previous.shape[-1])
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        tokens = "1" if fed.shape[1] == 1 else "tokens"
        raise UserError(
            f"expected the step to return logits {list(expected)} (rows, {tokens}, vocabulary), got {got}"
        )
    return logits
