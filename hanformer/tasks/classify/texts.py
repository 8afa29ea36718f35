"""Labelled texts: read from files, checked, and divided into what trains and what is held out."""

from __future__ import annotations

import csv
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

from hanformer.data.files import lines
from hanformer.data.held_out import draw, hold_out
from hanformer.data.published import open_splits
from hanformer.data.tables import SPLITS, Column, iterate_table
from hanformer.errors import UserError
from hanformer.tasks.classify.labels import ClassNames
from hanformer.tasks.classify.recipe import ALL_OTHERS, ClassifierRecipe, ClassifyRecipe

TEXT = Column(
    "text",
    (
        *("text", "text_a", "content", "review", "sentence", "title", "question"),
        *("文本", "内容", "评论", "句子", "标题", "问题"),
    ),
    0,
)
LABEL = Column("label", ("label", "labels", "class", "category", "polarity", "标签", "类别", "分类"), -1)
#: No file without a header has a column of splits.
SPLIT = Column("split", ("split",), 1 << 20, optional=True)
_EMPTY_SHARE = 0.01
#: Characters of what may be the name of a column.
_LONGEST_NAME = 12
_JSON = {".json", ".jsonl", ".ndjson"}
_ONE_AND_ZERO = {"0": False, "1": True, "": False}


@dataclass(frozen=True)
class LabelledText:
    """A text and its labels; `row` is where it stood in its file, `split` what that file says of it, if it does.

    一条带标签的文本。
    """

    row: int
    text: str
    labels: tuple[str, ...]
    split: str = ""


class Labelled(Protocol):
    """What examples of all classifying tasks have. 各分类任务样本的共同部分。"""

    @property
    def row(self) -> int: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def split(self) -> str: ...


RowT = TypeVar("RowT", bound=Labelled)
ReadRows = Callable[[Path], Sequence[RowT]]


@dataclass(frozen=True)
class ClassifyData:
    """Training and held-out texts, the classes, texts without labels, and where it all came from. 分类数据。"""

    source: str
    train: Sequence[LabelledText]
    valid: Sequence[LabelledText]
    names: ClassNames
    unlabelled: Sequence[str] = ()


def read_texts(path: str | Path, recipe: ClassifyRecipe) -> list[LabelledText]:
    """All labelled texts of a file.

    读出一个文件中带标签的文本。

    Published sets have a few rows without a text: one in a hundred at most is left out, with a warning. Raises
    UserError naming file and row for more of them, for a missing label where there must be one, for a value that is no
    text, and as `iterate_table` does; and for a file without rows.
    """
    rows = _of_class_columns(path, recipe) if recipe.label == ALL_OTHERS else _of_label_column(path, recipe)
    found = list(rows)
    if not found:
        raise UserError(f"{path}: holds no rows; expected texts with labels")
    return _with_text(path, found)


def _read_to_learn(path: str | Path, recipe: ClassifyRecipe) -> list[LabelledText]:
    """`read_texts`, with a warning where the first row looks like a header of other names."""
    rows = read_texts(path, recipe)
    first = rows[0]
    if _may_be_header(path, rows):
        names = " ".join(
            f"--set {shlex.quote(f'{column}={cell}')}"
            for column, cell in (("text", first.text), ("label", first.labels[0]))
        )
        warnings.warn(
            f"{path}: the first row is read as a text, and no other has its label {first.labels[0]!r}; if it names "
            f"the columns, say so: {names}",
            stacklevel=3,
        )
    return rows


def _may_be_header(path: str | Path, rows: Sequence[LabelledText]) -> bool:
    """Whether the first row of a table was read as data, is short, and has a label of its own where others repeat."""
    first, others = rows[0], {label for row in rows[1:] for label in row.labels}
    if first.row > 1 or len(first.labels) != 1 or {suffix.lower() for suffix in Path(path).suffixes} & _JSON:
        return False
    named = all(len(cell) <= _LONGEST_NAME and not cell.isdecimal() for cell in (first.text, *first.labels))
    return named and first.labels[0] not in others and 2 * len(others) < len(rows)


def _with_text(path: str | Path, rows: list[LabelledText]) -> list[LabelledText]:
    empty = [row.row for row in rows if not row.text]
    if len(empty) > len(rows) * _EMPTY_SHARE:
        raise UserError(
            f"{path}: row {empty[0]}: expected a text that is not empty; {len(empty)} of {len(rows)} rows have none, "
            "check which column holds the texts (--set text=...)"
        )
    if empty:
        warnings.warn(
            f"{path}: {len(empty)} rows without a text are left out, the first is row {empty[0]}",
            stacklevel=3,
        )
    return [row for row in rows if row.text]


def _of_label_column(path: str | Path, recipe: ClassifyRecipe) -> Iterator[LabelledText]:
    columns = (TEXT.named(recipe.text), LABEL.named(recipe.label), SPLIT)
    separator = recipe.separator if recipe.kind.many else None
    for number, (texts, labels, split) in iterate_table(path, columns):
        where = f"{path}: row {number}"
        for text, label in _side_by_side(texts, labels, where):
            yield LabelledText(
                number, _stripped(text, where), labels_of(label, where, separator), str(split or "").strip()
            )


def _side_by_side(texts: Any, labels: Any, where: str) -> list[tuple[Any, Any]]:
    """A text and its label; or the sentences of a record that holds a list of them, with a label for each."""
    if not isinstance(texts, list):
        return [(texts, labels)]
    if not isinstance(labels, list) or len(labels) != len(texts):
        raise UserError(f"{where}: expected a label for each of the {len(texts)} texts, got {labels!r}")
    return list(zip(texts, labels, strict=True))


def _of_class_columns(path: str | Path, recipe: ClassifyRecipe) -> Iterator[LabelledText]:
    """Every column but the text is a class."""
    header = _header(path)
    wanted = TEXT.named(recipe.text)
    text = next((name for name in wanted.wanted if name in header), None)
    classes = [name for name in header if name != text]
    if text is None or len(set(header)) < len(header) or not classes:
        raise UserError(
            f'{path}: label="*" needs a first row with a name for the text ({", ".join(wanted.wanted)}) and one for '
            f"every class, all different; got {', '.join(header) or 'nothing'}"
        )
    columns = (Column("text", (text,), 0), *(Column(name, (name,), 0) for name in classes))
    for number, (value, *cells) in iterate_table(path, columns):
        where = f"{path}: row {number}"
        wrong = next((cell for cell in cells if str(cell).strip() not in _ONE_AND_ZERO), None)
        if wrong is not None:
            raise UserError(f"{where}: expected 0 or 1 in the columns of classes, got {wrong!r}")
        labels = (name for name, cell in zip(classes, cells, strict=True) if _ONE_AND_ZERO[str(cell).strip()])
        yield LabelledText(number, _stripped(value, where), tuple(labels))


def _header(path: str | Path) -> list[str]:
    first = list(islice(lines(path), 1))
    row = first[0].split("\t") if first and "\t" in first[0] else next(csv.reader(first), [])
    return [cell.strip() for cell in row]


def text_of(value: Any, where: str) -> str:
    """A text that is not empty, without marks of byte order; raises UserError with the place. 检查文本。"""
    text = _stripped(value, where)
    if not text:
        raise UserError(f"{where}: expected a text that is not empty, got {value!r}")
    return text


def _stripped(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: expected a text, got {value!r}")
    return value.replace("\ufeff", "").strip()


def labels_of(value: Any, where: str, separator: str | None) -> tuple[str, ...]:
    """The labels of a cell: one, or with a separator any number; raises UserError with the place. 解析标签。"""
    given = value if isinstance(value, list) else [value]
    if not all(isinstance(part, (str, int, float, bool)) for part in given):
        raise UserError(f"{where}: expected a label as a word or a number, got {value!r}")
    parts = [str(part) for part in given]
    if separator is not None:
        parts = [piece for part in parts for piece in part.split(separator)]
    labels = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if separator is None and len(labels) != 1:
        raise UserError(
            f"{where}: expected one label, got {value!r}; for many of them choose loss=zlpr or loss=sigmoid"
        )
    return labels


def open_texts(
    path: str | Path, recipe: ClassifyRecipe, *, valid_file: str | Path | None = None
) -> ClassifyData:
    """The data of a classification run, by its recipe: split, limited, its classes checked.

    打开分类数据：划分训练与验证、取子集、检查类别。

    Raises UserError as `read_texts` and `divide` do, and for labels that the class file does not have and classes
    without a training row.
    """
    train, valid = divide(path, recipe, lambda file: _read_to_learn(file, recipe), valid_file)
    unlabelled = read_unlabelled(recipe.unlabelled, recipe.text) if recipe.unlabelled else ()
    names = names_of(path, train, valid, recipe.classes)
    drawn = limited(train, recipe)
    complaint = names.complaint_of_empty(names.targets([row.labels for row in drawn]))
    if complaint and len(drawn) < len(train):
        warnings.warn(
            f"{path}: with limit={recipe.limit} {complaint}; they are never predicted", stacklevel=2
        )
    return ClassifyData(str(path), drawn, valid, names, unlabelled)


def divide(
    path: str | Path, recipe: ClassifierRecipe, read: ReadRows[RowT], valid_file: str | Path | None
) -> tuple[list[RowT], list[RowT]]:
    """Training and held-out rows: of the files of a data set, of a column "split", or held out by the seed.

    划分训练集与验证集：按文件、按 split 列，或随机留出。

    Raises UserError where there is nothing to train on, or too little.
    """
    with open_splits(path) as splits:
        if "train" not in splits:
            raise UserError(f"{path}: there is no training file (train.*) among {', '.join(sorted(splits))}")
        train = list(read(splits["train"]))
        own = splits.get("valid") if valid_file is None else Path(valid_file)
        held = _of_split(train, "valid") if own is None else list(read(own))
        train = _of_split(train, "train") or train
    return hold_out(path, "rows", train, held, recipe.valid, Random(f"texts/{recipe.train.seed}"))


def limited(rows: Sequence[RowT], recipe: ClassifierRecipe) -> list[RowT]:
    """As many rows as the recipe wants, drawn by its seed; 0 wants all. 按种子抽取子集。"""
    return draw(rows, recipe.limit, Random(f"limit/{recipe.train.seed}"))


def rows_to_judge(path: str | Path, read: ReadRows[RowT]) -> list[RowT]:
    """The test rows of a data set, else its validation rows, else all of its only file. 取评测所用的行。"""
    with open_splits(path) as splits:
        name = next(split for split in ("test", "valid", "train") if split in splits)
        rows = list(read(splits[name]))
    return _of_split(rows, "test") or rows


def _of_split(rows: Sequence[RowT], split: str) -> list[RowT]:
    return [row for row in rows if row.split.lower() in SPLITS[split]]


def names_of(
    path: str | Path, train: Sequence[Labelled], valid: Sequence[Labelled], classes: str
) -> ClassNames:
    """The classes of a data set: those of a file, or all that are found. 类别名称。

    Raises UserError for labels that are none of them, and where every row has a label of its own. A class without a
    training row is refused where a file names it, and else only warned of: it was held out by chance.
    """
    every = [label for row in train for label in row.labels]
    if len(train) > 2 and len(set(every)) == len(train) == len(every):
        raise UserError(
            f"{path}: each of the {len(train)} rows has a label of its own ({every[0][:20]!r}, ...); "
            "check which column holds the labels (--set label=...)"
        )
    held = [label for row in valid for label in row.labels]
    names = ClassNames.read(classes) if classes else ClassNames.of_labels([*every, *held])
    check_labels(names, train, f"{path} (training)")
    check_labels(names, valid, f"{path} (validation)")
    complaint = names.complaint_of_empty(names.targets([row.labels for row in train]))
    if complaint and classes:
        raise UserError(f"{path}: {complaint}; leave them out of {classes}, or add rows")
    if complaint:
        warnings.warn(f"{path}: {complaint}; they are never predicted", stacklevel=3)
    return names


def check_labels(names: ClassNames, rows: Iterable[Labelled], where: str) -> None:
    """Raises UserError naming the row of a label that is no class. 检查标签是否属于已知类别。"""
    for row in rows:
        for label in row.labels:
            names.number(label, f"{where}: row {row.row}")


def read_unlabelled(path: str | Path, text: str = "") -> list[str]:
    """The texts of a file, its other columns unread; of a data set, those of its training file. 读出无标签文本。

    Raises UserError as `read_texts` does.
    """
    with open_splits(path) as splits:
        file = splits.get("train") or next(iter(splits.values()))
        columns = (TEXT.named(text),)
        found = [
            text_of(one, f"{file}: row {number}")
            for number, (value,) in iterate_table(file, columns)
            for one in (value if isinstance(value, list) else [value])
        ]
    if not found:
        raise UserError(f"{path}: holds no texts")
    return found
