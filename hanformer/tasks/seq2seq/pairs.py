"""Pairs of texts: read from files, cut into tokens, kept compactly."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hanformer.data.held_out import draw, hold_out
from hanformer.data.published import open_splits
from hanformer.data.sequences import Pair
from hanformer.data.tables import Column, iterate_table
from hanformer.errors import UserError
from hanformer.text.protocols import Tokenizer

SOURCE = Column("source", ("source", "src", "input", "text", "title", "question", "原文", "输入"), -2)
TARGET = Column("target", ("target", "tgt", "output", "summary", "label", "answer", "译文", "输出"), -1)

TextPair = tuple[str, str]


@dataclass(frozen=True)
class PairData:
    """Training and held-out pairs of texts, and where they came from. 训练与验证文本对。"""

    source: str
    train: Sequence[TextPair]
    valid: Sequence[TextPair]


def read_pairs(path: str | Path, source: str = "", target: str = "") -> list[TextPair]:
    """All pairs of a file: columns named source and target, or the last two.

    读出文本对；默认取 source、target 列，或最后两列。

    Raises UserError naming the row for a missing column, a value that is no text, or an empty text; and a file
    without rows.
    """
    found: list[TextPair] = []
    for number, values in iterate_table(path, (SOURCE.named(source), TARGET.named(target))):
        if not all(isinstance(value, str) and value.strip() for value in values):
            raise UserError(f"{path}: row {number}: expected two texts that are not empty, got {values!r}")
        found.append((values[0].strip(), values[1].strip()))
    if not found:
        raise UserError(f"{path}: holds no pairs; expected two columns of text in every row")
    return found


def open_pairs(
    path: str | Path,
    *,
    source: str = "",
    target: str = "",
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
        train = read_pairs(splits["train"], source, target)
        own = splits.get("valid") if valid_file is None else Path(valid_file)
        given = read_pairs(own, source, target) if own is not None else []
    random = Random(f"pairs/{seed}")
    train, held = hold_out(path, "rows", train, given, valid, random)
    return PairData(str(path), draw(train, limit, random), held)


class EncodedPairs:
    """Pairs as ids in flat arrays: [CLS] source [SEP], and target [SEP].

    以紧凑数组保存的编号对。

    Pairs whose source or target has more tokens than the bounds are left out; `left_out` counts them.
    """

    def __init__(self, sources: int, targets: int) -> None:
        self.bounds = (sources, targets)
        self.left_out = 0
        self._ids, self._ends = array("i"), array("q", [0])

    @classmethod
    def of(
        cls, pairs: Iterable[TextPair], tokenizer: Tokenizer, *, sources: int, targets: int
    ) -> EncodedPairs:
        """Encodes texts. 编码文本对。"""
        encoded = cls(sources, targets)
        vocabulary = tokenizer.vocabulary
        for source, target in pairs:
            encoded._add(
                [vocabulary.cls_id, *ids_of(tokenizer, source), vocabulary.sep_id],
                [*ids_of(tokenizer, target), vocabulary.sep_id],
            )
        return encoded

    def _add(self, source: list[int], target: list[int]) -> None:
        if len(source) > self.bounds[0] or len(target) > self.bounds[1]:
            self.left_out += 1
            return
        self._ids.extend(source)
        self._ends.append(len(self._ids))
        self._ids.extend(target)
        self._ends.append(len(self._ids))

    def __len__(self) -> int:
        return len(self._ends) // 2

    def __getitem__(self, index: int) -> Pair:
        start, middle, end = self._ends[2 * index : 2 * index + 3]
        return Pair(tuple(self._ids[start:middle]), tuple(self._ids[middle:end]))

    def lengths(self) -> list[int]:
        """Tokens of each pair, as `Pair.length` counts them. 每对的词元数。"""
        return [self._ends[2 * place + 2] - self._ends[2 * place] - 1 for place in range(len(self))]


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text alone. 文本的编号。"""
    return tokenizer.encode(text, special_tokens=False).ids
