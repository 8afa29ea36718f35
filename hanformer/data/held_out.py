"""Rows that are held out to choose by, and rows drawn by a seed. 留出验证数据与按种子抽样。"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from hanformer.errors import UserError

Row = TypeVar("Row")


def hold_out(
    path: str | Path, what: str, train: Sequence[Row], given: Sequence[Row], count: int, random: Random
) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to choose by: at most `count` of those that are given, else `count` of the former.

    划分训练行与验证行：已有验证行时至多取 count 行，否则从训练行中随机留出。

    `what` is the word for rows. Raises UserError where none would be left to train on.
    """
    if given:
        return list(train), draw(given, count, random)
    if len(train) <= count:
        raise UserError(
            f"{path}: has {len(train)} {what}, {count} are held out to choose by; take fewer, such as "
            f"--set valid={max(len(train) // 10, 1)}, or name a validation file"
        )
    shuffled = list(train)
    random.shuffle(shuffled)
    return shuffled[count:], shuffled[:count]


def draw(rows: Sequence[Row], count: int, random: Random) -> list[Row]:
    """So many of the rows, by chance; all of them, in their order, where there are no more, or `count` is 0.

    随机抽取若干行；count 为 0 时取全部。
    """
    return random.sample(rows, count) if 0 < count < len(rows) else list(rows)
