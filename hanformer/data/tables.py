"""Labelled rows from the usual files: tab- or comma-separated columns, with a header or without, and JSON records.

读取带标注的数据：TSV、CSV（有无表头均可）与 JSON 记录；可为 gz、xz、zip。
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from hanformer.data.files import iterate_json_records, lines, members_within
from hanformer.errors import UserError

SPLITS: Final[dict[str, tuple[str, ...]]] = {
    "train": ("train",),
    "valid": ("valid", "validation", "dev"),
    "test": ("test",),
}
"""Split -> how the names of its files begin or end. 各划分的文件名。"""
_JSON: Final = (".json", ".jsonl", ".ndjson")
_SUFFIXES: Final = (".tsv", ".csv", ".txt", ".data", *_JSON)
_PACKED: Final = (".gz", ".xz", ".zip")
#: Characters of a cell: quotes that never close should not read a whole file into memory.
_LONGEST_CELL: Final = 1 << 26
_SHOWN: Final = 80
_LISTED: Final = 5


@dataclass(frozen=True)
class Column:
    """What a task wants of every row: names that a header or a JSON record may have for it, and its place without one.

    任务所需的一列：可能的列名，以及无表头时的位置。

    `place` counts from 0, negative ones from the end. `chosen`, given by a user, is a name, or a number from 1.
    An `optional` column may be missing: its value is then None.
    """

    role: str
    names: tuple[str, ...]
    place: int
    chosen: str = ""
    optional: bool = False

    def named(self, chosen: str) -> Column:
        """The same column as a user names it; an empty text changes nothing. 指定列名或列号。"""
        return replace(self, chosen=chosen) if chosen else self

    @property
    def numbered(self) -> bool:
        """Whether a user chose it by its number. 是否以列号指定。"""
        return self.chosen.isdecimal()

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names to look for."""
        return (self.chosen,) if self.chosen else self.names


def iterate_table(path: str | Path, columns: Sequence[Column]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield (number of the row from 1, the values of the columns) for every row of a file that is not blank.

    逐行读出所需各列。

    JSON values come as they are, all others as text. A first row that holds a name of every column that is not
    optional is a header, in capitals or not. Raises: UserError naming the file and the row: a missing column, also in
    a first row that names some of the others, quotes that do not close, text that is not UTF-8.
    """
    kind = _kind(Path(path))
    if kind == "json":
        yield from _of_records(path, columns)
    else:
        yield from _of_cells(path, _cells(path, kind), columns)


def read_table(path: str | Path, columns: Sequence[Column]) -> list[tuple[Any, ...]]:
    """All rows, as `iterate_table` reads them; raises UserError also where there is none. 读出全部行。"""
    rows = [values for _, values in iterate_table(path, columns)]
    if not rows:
        raise UserError(f"{path}: holds no rows; expected {expected(columns)}")
    return rows


def expected(columns: Sequence[Column]) -> str:
    """What files may look like, in a sentence. 对文件格式的说明。"""
    names = ", ".join(column.wanted[0] for column in columns if not column.optional)
    return f"columns separated by tabs (.tsv) or commas (.csv), or JSON records, with {names}"


def find_splits(path: str | Path) -> dict[str, Path]:
    """The files of a folder by split (train, valid, test); a file alone is its training set.

    文件夹中各划分的文件；单个文件视为训练集。

    Raises: UserError where there is no such path, no training or test file, or two files for one split.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"{place}: no such file or folder")
    if place.is_file():
        return {"train": place}
    files = sorted(file for file in place.iterdir() if file.is_file() and _plain_suffix(file) in _SUFFIXES)
    if found := splits_among(files, place):
        return found
    held = ", ".join(file.name for file in files[:_LISTED])
    advice = f"; it holds {held}: rename what should be one of them, or give a file alone" if held else ""
    raise UserError(
        f"{place}: no file named train, valid (dev) or test with one of {', '.join(_SUFFIXES)}{advice}"
    )


def splits_among(files: Sequence[Path], place: Path) -> dict[str, Path]:
    """Those of the files of a place whose names say a split. 按文件名归入各划分。

    Raises: UserError for two files of one split.
    """
    found: dict[str, Path] = {}
    for file in files:
        for split in (split for split, names in SPLITS.items() if _is_of(file, names)):
            if split in found:
                raise UserError(
                    f"{place}: {found[split].name} and {file.name} both look like {split}; name a file"
                )
            found[split] = file
    return found


def _is_of(file: Path, names: Sequence[str]) -> bool:
    words = file.name.lower().replace("-", ".").replace("_", ".").split(".")
    return any(name in words for name in names)


def _plain_suffix(file: Path) -> str:
    """The suffix below what says how the file is packed: train.tsv.gz -> .tsv."""
    suffixes = [suffix.lower() for suffix in file.suffixes if suffix.lower() not in _PACKED]
    return suffixes[-1] if suffixes else ""


def _kind(path: Path) -> str:
    suffix = _plain_suffix(path) or _plain_suffix(next(iter(members_within(path)), path))
    if suffix in _JSON:
        return "json"
    return "csv" if suffix == ".csv" else "tsv"


def _cells(path: str | Path, kind: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of cells, numbered from 1, blank ones left out."""
    if kind == "tsv":
        for number, line in enumerate(lines(path), start=1):
            if line.strip():
                yield number, line.split("\t")
        return
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader((f"{line}\n" for line in lines(path)), strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(
            f"{path}: line {reader.line_num}: not comma-separated values ({error}); expected commas, no semicolons, "
            "and quotes around a cell that holds a comma or a quote"
        ) from None


def _of_cells(
    path: str | Path, rows: Iterator[tuple[int, list[str]]], columns: Sequence[Column]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    first = list(islice(rows, 1))
    header = [cell.strip() for cell in first[0][1]] if first else []
    places = _places_by_name(path, header, columns)
    if places is None:
        places = {column.role: _place_without_header(path, column) for column in columns}
        rows = chain(first, rows)
    yield from ((number, _picked(path, number, cells, columns, places)) for number, cells in rows)


def _places_by_name(
    path: str | Path, header: Sequence[str], columns: Sequence[Column]
) -> dict[str, int | None] | None:
    """The places that a first row gives, or None where it names no column: it is data then.

    A cell that reads 1 is no name of the column with that number.
    """
    places = {column.role: _place_in(header, column) for column in columns if not column.numbered}
    if all(place is None for place in places.values()):
        return None
    for column in columns:
        if not column.optional and places.get(column.role, 0) is None:
            raise UserError(
                f"{path}: the first row names other columns and no {column.role} ({', '.join(column.wanted)}); it has "
                f"{', '.join(header)[:_SHOWN]}. Name the column, or number all of them from 1 where this is no header"
            )
    numbered = {column.role: _place_without_header(path, column) for column in columns if column.numbered}
    return {**places, **numbered}


def _place_in(header: Sequence[str], column: Column) -> int | None:
    """Where one of its names stands; capitals count only where they tell two columns apart."""
    folded = [cell.casefold() for cell in header]
    exact = (header.index(name) for name in column.wanted if name in header)
    alike = (folded.index(name.casefold()) for name in column.wanted if name.casefold() in folded)
    return next(chain(exact, alike), None)


def _place_without_header(path: str | Path, column: Column) -> int | None:
    if not column.chosen:
        return column.place
    if not column.chosen.isdecimal() or not int(column.chosen):
        raise UserError(
            f"{path}: there is no column {column.chosen!r} in the first row; "
            "name one of its columns, or the number of a column from 1"
        )
    return int(column.chosen) - 1


def _picked(
    path: str | Path,
    number: int,
    cells: Sequence[str],
    columns: Sequence[Column],
    places: Mapping[str, int | None],
) -> tuple[Any, ...]:
    values: list[Any] = []
    for column in columns:
        place = places[column.role]
        there = place is not None and -len(cells) <= place < len(cells)
        if not there and not column.optional:
            raise UserError(
                f"{path}: row {number} has {len(cells)} columns, too few for "
                f"{' and '.join(each.role for each in columns if not each.optional)}; expected {expected(columns)}"
            )
        values.append(cells[place] if there and place is not None else None)
    return tuple(values)


def _of_records(path: str | Path, columns: Sequence[Column]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    for number, record in iterate_json_records(path):
        values: list[Any] = []
        for column in columns:
            name = next((name for name in column.wanted if name in record), None)
            if name is None and not column.optional:
                raise UserError(
                    f"{path}: record {number} has no {column.wanted[0]!r} ({column.role}); it has "
                    f"{', '.join(sorted(record)) or 'nothing'}"
                )
            values.append(None if name is None else record[name])
        yield number, tuple(values)
