"""Text of files of any size, one passage at a time, and where documents begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from hanformer.data.files import lines, members_within
from hanformer.data.tables import Column, iterate_table, splits_among
from hanformer.errors import UserError
from hanformer.tasks.pretrain.recipe import TextOptions

_TEXT = (".txt", ".text", ".tsv", ".csv", ".json", ".jsonl", ".ndjson", ".data")
_PACKED = (".gz", ".xz", ".zip")


class Passage(NamedTuple):
    """A stretch of text, and whether a document begins with it. 一段文本；begins 表示文档由此开始。"""

    text: str
    begins: bool


@dataclass(frozen=True)
class Corpus:
    """Files to learn from, and to choose by (none: rows of the others are held out). 训练与验证文件。"""

    source: str
    train: tuple[Path, ...]
    valid: tuple[Path, ...] = ()


def open_corpus(path: str | Path, valid: str | Path | None = None) -> Corpus:
    """A file of text, or a folder or zip: its files of training and validation, or all its files of text in order.

    打开语料：单个文件，或文件夹、zip（train、valid 文件；否则取全部文本文件）。

    Raises UserError where there is nothing to read.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"{place}: no such file or folder; expected text to learn from")
    files = files_of(place)
    named = splits_among(files, place)
    if "train" in named:
        files = [named["train"]]
    held = [named["valid"]] if {"train", "valid"} <= named.keys() else []
    if valid is not None:
        held = [Path(valid)]
        if not held[0].is_file():
            raise UserError(f"{valid}: no such file; expected text to choose by")
    return Corpus(str(path), tuple(files), tuple(held))


def files_of(place: Path) -> list[Path]:
    """A file, or the files of text of a folder or a zip with several, in order. 单个文件，或其中的全部文本文件。

    Raises UserError where there is none.
    """
    members = list(place.iterdir()) if place.is_dir() else members_within(place)
    if place.is_file() and len(members) <= 1:
        return [place]
    files = sorted(file for file in members if _is_text(file) and not file.is_dir())
    if not files:
        raise UserError(f"{place}: holds no files of text ({', '.join(_TEXT)}, plain or packed)")
    return files


def file_to_judge(path: str | Path) -> Path:
    """The test file of a folder or zip, else its validation file, else its training file; a file alone is itself.

    用于评测的文件。

    Raises UserError where there is nothing to read, or the names of several files say no split.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"{place}: no such file or folder; expected text to judge by")
    files = files_of(place)
    named = splits_among(files, place) if len(files) > 1 else {}
    for split in ("test", "valid", "train"):
        if split in named:
            return named[split]
    if len(files) > 1:
        raise UserError(f"{place}: none of its {len(files)} files is named test or valid; name a file")
    return files[0]


def _is_text(file: Path) -> bool:
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _PACKED]
    return bool(suffixes) and suffixes[-1] in _TEXT


def passages(files: Sequence[Path], options: TextOptions) -> Iterator[Passage]:
    """The passages of files in order; a file is never in memory as a whole.

    逐段读出文本，不整体载入内存。

    Raises UserError naming the file and the row for a missing column and for text that is not UTF-8.
    """
    for file in files:
        if not options.columns:
            yield from _of_lines(file, options.documents)
            continue
        for name in options.columns:
            yield from _of_column(file, name, options.group)


def _of_lines(file: Path, documents: str) -> Iterator[Passage]:
    begins = True
    for line in lines(file):
        text = line.strip()
        if text:
            yield Passage(text, begins)
            begins = documents == "line"
        elif documents == "blank":
            begins = True


def _of_column(file: Path, name: str, group: str) -> Iterator[Passage]:
    """One column of a table, from top to bottom: neighbouring rows of one group are one document."""
    columns = [Column("text", (name,), 0).named(name)]
    if group:
        columns.append(Column("group", (group,), 0).named(group))
    numbered = iterate_table(file, columns)
    documents = groupby(numbered, key=lambda row: row[1][1] if group else row[0])
    for _, rows in documents:
        begins = True
        for number, values in rows:
            for text in _texts(values[0], f"{file}: row {number}: expected text in {name}"):
                yield Passage(text, begins)
                begins = False


def _texts(value: object, expected: str) -> list[str]:
    """The texts of a cell that are not blank: JSON may hold a list of them, such as the lines of a poem."""
    parts = value if isinstance(value, list) else [value]
    found = []
    for part in parts:
        if not isinstance(part, str):
            raise UserError(f"{expected}, got {part!r}")
        if text := part.strip():
            found.append(text)
    return found
