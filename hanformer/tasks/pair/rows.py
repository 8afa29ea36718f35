"""Pairs of texts with their labels: read from files, checked and divided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanformer.data.tables import Column, iterate_table
from hanformer.errors import UserError
from hanformer.tasks.classify.labels import ClassNames
from hanformer.tasks.classify.texts import (
    SPLIT,
    divide,
    labels_of,
    limited,
    names_of,
    rows_to_judge,
    text_of,
)
from hanformer.tasks.pair.losses import VECTOR_LOSSES
from hanformer.tasks.pair.recipe import PairRecipe

FIRST = Column(
    "first",
    (
        *("first", "sentence1", "text1", "text_a", "sentence_A", "sentence_a", "premise", "query"),
        *("文本1", "句子1"),
    ),
    0,
)
SECOND = Column(
    "second",
    (
        *("second", "sentence2", "text2", "text_b", "sentence_B", "sentence_b", "hypothesis", "title"),
        *("文本2", "句子2"),
    ),
    1,
)
LABEL = Column(
    "label", ("label", "score", "relatedness_score", "similarity", "标签", "相似度"), 2, optional=True
)
#: How data sets say that nobody agreed on a label.
_NO_LABEL = ("", "-")


@dataclass(frozen=True)
class LabelledPair:
    """Two texts and their label, if they have one; `row` and `split` as in `LabelledText`. 一个文本对。"""

    row: int
    first: str
    second: str
    labels: tuple[str, ...]
    split: str = ""


@dataclass(frozen=True)
class PairRows:
    """Training and held-out pairs, where they came from, and how many were left out for want of a label.

    训练与验证文本对。
    """

    source: str
    train: Sequence[LabelledPair]
    valid: Sequence[LabelledPair]
    left_out: int = 0


def read_pairs(path: str | Path, recipe: PairRecipe) -> list[LabelledPair]:
    """All pairs of a file; a label that is empty or "-" is none.

    读出文本对；标签为空或“-”视为没有标签。

    Raises UserError naming file and row for an empty text, a value that is no text or label, a grade that is no number
    where numbers are wanted, and as `iterate_table` does; and for a file without rows.
    """
    found = list(_rows(path, recipe))
    if not found:
        raise UserError(f"{path}: holds no rows; expected pairs of texts")
    return found


def _rows(path: str | Path, recipe: PairRecipe) -> Iterator[LabelledPair]:
    label = LABEL.named(recipe.label)
    columns = (FIRST.named(recipe.first), SECOND.named(recipe.second), label, SPLIT)
    for number, (first, second, value, split) in iterate_table(path, columns):
        where = f"{path}: row {number}"
        labels: tuple[str, ...] = ()
        if value is not None and str(value).strip() not in _NO_LABEL:
            labels = labels_of(value, where, None)
        if recipe.compares and labels:
            grade(labels[0], where)
        texts = text_of(first, where), text_of(second, where)
        yield LabelledPair(number, *texts, labels, str(split or "").strip())


def grade(label: str, where: str) -> float:
    """A label as a number; raises UserError with the place. 把标签读作数值。"""
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: expected a number that says how alike the texts are, got {label!r}")
    return value


def open_pairs(path: str | Path, recipe: PairRecipe, *, valid_file: str | Path | None = None) -> PairRows:
    """The data of a run on pairs, by its recipe: divided, limited, pairs without the label that they need left out.

    打开文本对数据：划分训练与验证，去掉缺少所需标签的文本对。

    Raises UserError as `read_pairs` and `divide` do, and where no pair is left.
    """
    train, valid = divide(path, recipe, lambda file: read_pairs(file, recipe), valid_file)
    train = limited(train, recipe)
    kept = [row for row in train if _trains(row, recipe)]
    held = [row for row in valid if row.labels]
    if not kept or not held:
        raise UserError(
            f"{path}: of {len(train)} pairs {len(kept)} have what loss={recipe.loss} trains on, and of {len(valid)} "
            f"held out {len(held)} have a label to choose by; check the columns (--set label=...)"
        )
    return PairRows(str(path), kept, held, len(train) - len(kept) + len(valid) - len(held))


def pairs_to_judge(path: str | Path, recipe: PairRecipe) -> tuple[list[LabelledPair], int]:
    """The labelled test pairs of a data set (as `rows_to_judge`), and how many have no label. 评测文本对。"""
    rows = rows_to_judge(path, lambda file: read_pairs(file, recipe))
    labelled = [row for row in rows if row.labels]
    if not labelled:
        raise UserError(f"{path}: none of {len(rows)} pairs has a label; check the columns")
    return labelled, len(rows) - len(labelled)


def pair_names(data: PairRows) -> ClassNames:
    """The classes of pairs; raises UserError as `names_of` does. 类别名称。"""
    return names_of(data.source, data.train, data.valid, "")


def _trains(row: LabelledPair, recipe: PairRecipe) -> bool:
    kind = VECTOR_LOSSES.get(recipe.loss)
    if kind is None or kind.grades:
        return bool(row.labels)
    return kind.twice or not row.labels or float(row.labels[0]) >= recipe.alike
