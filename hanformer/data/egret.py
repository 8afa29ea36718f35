"""The Egret corpus: lines by number, and conversations that name their lines. Egret 问答语料。

Source: github.com/candlewill/Dialog_Corpus.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hanformer.data.files import iterate_members
from hanformer.errors import UserError

_LINES: Final = "egret_wenda_lines.txt"
_CONVERSATIONS: Final = "egret_wenda_conversations.txt"
_BETWEEN: Final = "+++$+++"


def is_egret(path: str | Path) -> bool:
    """Whether a folder or a zip holds the two files of the corpus. 是否为 Egret 语料。"""
    return {_LINES, _CONVERSATIONS} <= set(_names(Path(path)))


def _names(path: Path) -> list[str]:
    if path.is_dir():
        return [file.name for file in path.iterdir()]
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return [Path(name).name for name in archive.namelist()]
    return []


def egret_dialogues(path: str | Path) -> Iterator[list[str]]:
    """Every conversation as its utterances.

    逐条读出对话。

    Raises UserError naming the file and its line, where a row has other columns, or names a line that is not there.
    """
    texts: dict[object, str] = {}
    for where, (number, _, text) in _rows(path, _LINES, 3):
        if not text:
            raise UserError(f"{where}: expected an utterance, found none")
        texts[_number(where, number)] = text
    for where, columns in _rows(path, _CONVERSATIONS, 6):
        numbers = _numbers(where, columns[-1])
        absent = [number for number in numbers if number not in texts]
        if absent:
            raise UserError(f"{where}: names the line {absent[0]}, which {_LINES} does not have")
        yield [texts[number] for number in numbers]


def _rows(path: str | Path, name: str, columns: int) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(_text(Path(path), name).split("\n"), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(_BETWEEN)]
        where = f"{path}: {name}: line {number}"
        if len(cells) != columns:
            raise UserError(f"{where}: expected {columns} columns between {_BETWEEN}, got {len(cells)}")
        yield where, cells


def _text(path: Path, name: str) -> str:
    for found, chunks in iterate_members(path / name if path.is_dir() else path, (name,)):
        try:
            return b"".join(chunks).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{found}: byte {error.start + 1} is not UTF-8; convert the file to UTF-8"
            ) from None
    raise UserError(f"{path}: {name} is missing; fetch the corpus again")


def _number(where: str, text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"{where}: expected the number of a line, got {text!r}")
    return int(text)


def _numbers(where: str, text: str) -> list[int]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(number, int) for number in found):
        raise UserError(f"{where}: expected a list of numbers of lines, such as [0, 1], got {text[:40]!r}")
    return found
