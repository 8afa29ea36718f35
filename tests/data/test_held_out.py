"""What is held out is another part than what trains, and the same for the same seed."""

from __future__ import annotations

from random import Random

import pytest

from hanformer.data.held_out import draw, hold_out
from hanformer.errors import UserError

ROWS = tuple(range(20))


def test_rows_are_parted() -> None:
    train, held = hold_out("data", "rows", ROWS, (), 5, Random(1))
    assert len(held) == 5 and sorted([*train, *held]) == list(ROWS)
    assert (train, held) == hold_out("data", "rows", ROWS, (), 5, Random(1))
    assert held != hold_out("data", "rows", ROWS, (), 5, Random(2))[1]


def test_given_rows_leave_the_others_alone() -> None:
    train, held = hold_out("data", "rows", ROWS, (30, 31, 32), 2, Random(1))
    assert train == list(ROWS) and len(held) == 2 and set(held) < {30, 31, 32}
    assert hold_out("data", "rows", ROWS, (31, 30), 2, Random(1))[1] == [31, 30]


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(UserError, match="data: has 20 texts, 20 are held out .* --set valid=2, or name"):
        hold_out("data", "texts", ROWS, (), 20, Random(1))


def test_rows_are_drawn() -> None:
    assert draw(ROWS, 0, Random(1)) == draw(ROWS, 20, Random(1)) == list(ROWS)
    assert len(set(draw(ROWS, 7, Random(1)))) == 7
