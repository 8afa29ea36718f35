"""Pairs of texts, each under a condition where there are some: read from files, cut into tokens, kept compactly."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from hanformer.data.held_out import draw, hold_out
from hanformer.data.published import open_splits
from hanformer.data.sequences import Pair
from hanformer.data.tables import Column, iterate_table
from hanformer.errors import UserError
from hanformer.text.protocols import Tokenizer

SOURCE = Column("source", ("source", "src", "input", "text", "title", "question", "原文", "输入"), -2)
TARGET = Column("target", ("target", "tgt", "output", "summary", "label", "answer", "译文", "输出"), -1)

#: In the place of a source column: nothing is read, texts are written from their condition alone.
NO_SOURCE: Final = "none"


class TextPair(NamedTuple):
    """A text, what is to be written for it, and under which condition (empty: none).

    原文、译文及条件。
    """

    source: str
    target: str
    condition: str = ""


@dataclass(frozen=True)
class PairColumns:
    """The columns of a file by name, or by number from 1; empty ones are found by their usual names and places.

    文本对各列的名称或列号。

    `source` none is for texts that are written from nothing but their condition. Columns with a condition are all
    named, or found by a header or as keys of JSON records.
    """

    source: str = ""
    target: str = ""
    condition: str = ""

    def __post_init__(self) -> None:
        if self.sourceless and not self.condition:
            raise UserError(
                "source=none writes texts from their condition alone: name its column (condition)"
            )
        if self.condition.isdecimal() and not (self.source and self.target):
            raise UserError(
                f"condition={self.condition}: where columns have numbers, give all of them, such as "
                f"source={NO_SOURCE} target=1 condition=2"
            )
        if self.condition and self.condition in (self.source, self.target):
            raise UserError(f"condition={self.condition}: is the column of a text too; name that of a label")

    @property
    def sourceless(self) -> bool:
        """Whether no source is read."""
        return self.source == NO_SOURCE

    def columns(self) -> list[Column]:
        """What is wanted of every row: source, target and condition, those that there are. 所需各列。"""
        if not self.condition:
            return [SOURCE.named(self.source), TARGET.named(self.target)]
        label = CONDITION.named(self.condition)
        if self.sourceless:
            return [self._but_label(_ALONE).named(self.target), label]
        return [self._but_label(SOURCE).named(self.source), self._but_label(TARGET).named(self.target), label]

    def _but_label(self, column: Column) -> Column:
        """The column, without the name of the one that holds the label."""
        return replace(
            column, names=tuple(name for name in column.names if name != self.condition.casefold())
        )


CONDITION = Column("condition", (), -1)
#: A text that is written without a source may stand under the names of either; a column named label is none.
_ALONE = replace(TARGET, names=(*(name for name in TARGET.names if name != "label"), *SOURCE.names))


@dataclass(frozen=True)
class PairData:
    """Training and held-out pairs of texts, and where they came from. 训练与验证文本对。"""

    source: str
    train: Sequence[TextPair]
    valid: Sequence[TextPair]


def read_pairs(path: str | Path, named: PairColumns = PairColumns()) -> list[TextPair]:
    """All pairs of a file: columns named source and target, or the last two.

    读出文本对；默认取 source、target 列，或最后两列。

    Raises UserError naming the row for a missing column, a value that is no text, or an empty text; and a file
    without rows.
    """
    columns = named.columns()
    found = [_pair(f"{path}: row {number}", values, named) for number, values in iterate_table(path, columns)]
    if not found:
        wanted = " and ".join(column.role for column in columns)
        raise UserError(f"{path}: holds no rows; expected {wanted} in every row")
    return found


def _pair(where: str, values: Sequence[Any], named: PairColumns) -> TextPair:
    cells = list(values)
    if named.condition and isinstance(cells[-1], int):  # of a JSON record: 5, true
        cells[-1] = str(cells[-1]).lower()
    if not all(isinstance(cell, str) and cell.strip() for cell in cells):
        wanted = " and ".join(column.role for column in named.columns())
        raise UserError(f"{where}: expected a text that is not empty for {wanted}, got {tuple(values)!r}")
    texts = [cell.strip() for cell in cells]
    return TextPair("", *texts) if named.sourceless else TextPair(*texts)


def open_pairs(
    path: str | Path,
    *,
    columns: PairColumns = PairColumns(),
    valid: int,
    limit: int = 0,
    seed: int = 0,
    valid_file: str | Path | None = None,
) -> PairData:
    """Training pairs and those to choose by: the files of a folder or a zip, or one file of which `valid` rows are held
    out.

    打开训练与验证数据。

    `limit` pairs are drawn from the training set by the seed (0: all), `valid` at most from the validation set.
    Raises UserError as `read_pairs` does, and where too few rows are left to train on.
    """
    with open_splits(path) as splits:
        if "train" not in splits:
            raise UserError(f"{path}: there is no training file (train.*) among {', '.join(sorted(splits))}")
        train = read_pairs(splits["train"], columns)
        own = splits.get("valid") if valid_file is None else Path(valid_file)
        given = read_pairs(own, columns) if own is not None else []
    random = Random(f"pairs/{seed}")
    train, held = hold_out(path, "rows", train, given, valid, random)
    data = PairData(str(path), draw(train, limit, random), held)
    return data if given else _with_rare(data)


def _with_rare(data: PairData) -> PairData:
    """A rare condition may have been drawn among the held-out rows alone: those are learned rather than judged by."""
    known = {pair.condition for pair in data.train}
    rare = [pair for pair in data.valid if pair.condition not in known]
    kept = [pair for pair in data.valid if pair.condition in known]
    return PairData(data.source, [*data.train, *rare], kept)


class EncodedPairs:
    """Pairs as ids in flat arrays: [CLS] source [SEP], and target [SEP].

    以紧凑数组保存的编号对。

    Pairs whose source or target has more tokens than the bounds are left out; `left_out` counts them. Conditions are
    kept by their place in `conditions`.
    """

    def __init__(self, sources: int, targets: int) -> None:
        self.bounds = (sources, targets)
        self.left_out = 0
        self._ids, self._ends, self._conditions = array("i"), array("q", [0]), array("i")

    @classmethod
    def of(
        cls,
        pairs: Iterable[TextPair],
        tokenizer: Tokenizer,
        *,
        sources: int,
        targets: int,
        conditions: Sequence[str] = (),
    ) -> EncodedPairs:
        """Encodes texts. 编码文本对。"""
        encoded = cls(sources, targets)
        vocabulary = tokenizer.vocabulary
        numbers = {name: number for number, name in enumerate(conditions)}
        for source, target, condition in pairs:
            encoded._add(
                [vocabulary.cls_id, *ids_of(tokenizer, source), vocabulary.sep_id],
                [*ids_of(tokenizer, target), vocabulary.sep_id],
                numbers.get(condition),
            )
        return encoded

    def _add(self, source: list[int], target: list[int], condition: int | None) -> None:
        if len(source) > self.bounds[0] or len(target) > self.bounds[1]:
            self.left_out += 1
            return
        self._ids.extend(source)
        self._ends.append(len(self._ids))
        self._ids.extend(target)
        self._ends.append(len(self._ids))
        if condition is not None:
            self._conditions.append(condition)

    def __len__(self) -> int:
        return len(self._ends) // 2

    def __getitem__(self, index: int) -> Pair:
        start, middle, end = self._ends[2 * index : 2 * index + 3]
        condition = self._conditions[index] if self._conditions else None
        return Pair(tuple(self._ids[start:middle]), tuple(self._ids[middle:end]), condition)

    def lengths(self) -> list[int]:
        """Tokens of each pair, as `Pair.length` counts them. 每对的词元数。"""
        return [self._ends[2 * place + 2] - self._ends[2 * place] - 1 for place in range(len(self))]


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text alone. 文本的编号。"""
    return tokenizer.encode(text, special_tokens=False).ids
