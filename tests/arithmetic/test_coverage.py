"""What slots and constants express, counted by hand on a few problems and on the published test problems."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from hanformer.arithmetic.coverage import cover
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.splits import Split
from hanformer.errors import UserError
from tests.arithmetic.published import math23k

PROBLEMS = [
    Problem("slots", "有3个苹果和5个梨，一共几个？", "x=3+5", "8"),
    Problem("one", "用去(2/5)，还剩几分之几？", "x=1-(2/5)", "((3)/(5))"),
    Problem("two", "半径4米的圆，直径多少米？", "x=4*2", "8"),
    Problem("other form", "两人有3本和1.5本", "x=3*1.5", "9/2"),
    Problem("broken", "有3个", "x=3+", "3"),
]


def test_counts_of_a_few_problems() -> None:
    (found,) = cover(Split(train=PROBLEMS, test=[])).values()
    assert (found.problems, found.kept) == (5, 4)
    assert found.constants == (Fraction(1), Fraction(2))
    assert found.expressible == (2, 3, 4)
    assert (found.numbers, found.numbers_with_chinese) == (7, 8)
    assert found.as_published == 3
    assert next(found.lines()) == "  slots alone: 2 expressible (40.00%)"


def test_parts_share_the_constants_of_the_training_part() -> None:
    found = cover(Split(train=PROBLEMS[:1], test=PROBLEMS[2:3]))
    assert list(found) == ["train", "test"]
    assert found["test"].constants == (Fraction(1),)
    assert found["test"].expressible == (0, 0)


def test_no_problems_are_refused() -> None:
    with pytest.raises(UserError, match="at least one problem"):
        cover(Split(train=[], test=[]))


def test_published_test_problems(data_folder: Path) -> None:
    found = cover(Split(train=[], test=math23k(data_folder).test))["test"]
    assert found.constants[0] == 1
    assert found.expressible[:2] == (756, 993)
    assert found.as_published == 978
