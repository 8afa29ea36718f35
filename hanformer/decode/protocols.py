"""What decoding asks of a model and of a constraint: a step, a state, and who may come next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from torch import Tensor


class State(Protocol):
    """What a model remembers of R rows: keys and values, recurrent sums, or the tokens themselves.

    模型对 R 行所记住的一切：键值缓存、循环和，或词元本身。
    """

    @property
    def length(self) -> int:
        """How many tokens were appended after the prompt, the same for every row."""
        ...

    def select(self, rows: Tensor) -> None:
        """In place, row r becomes the old row `rows[r]`; rows may repeat, be dropped or change order.

        `rows` [R'] is int64 on the host: a state can tell without a synchronisation which rows change.
        """
        ...

    def truncate(self, length: int) -> None:
        """Forgets all but the first `length` appended tokens, or raises where the state cannot."""
        ...


StateT = TypeVar("StateT", bound=State)

Step = Callable[[Tensor, StateT], Tensor]
"""`step(tokens [R, T], state) -> logits [R, T, V]`: appends the tokens to the state in place.

把词元就地追加到状态，返回每个位置的下一词元 logits。
"""


class Constraint(Protocol):
    """Which tokens may come next in each row; selected and advanced together with the state.

    每一行下一步允许哪些词元；与状态一同选择、一同前进。
    """

    def allowed(self) -> Tensor:
        """Bool [R, V], True where the token may come next (the end token too)."""
        ...

    def advance(self, tokens: Tensor) -> None:
        """Appends one token to each row; `tokens` [R] is int64 on the host."""
        ...

    def select(self, rows: Tensor) -> None:
        """As `State.select`."""
        ...
