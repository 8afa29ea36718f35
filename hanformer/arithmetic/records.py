"""Word problems as records, and the readers of Math23K and Ape210k files as they are published.

应用题记录，以及 Math23K 与 Ape210k 公开文件的读取。

Source: Math23K (Wang et al. 2017, Deep Neural Solver), Ape210k (arXiv 2009.11506).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hanformer.data.files import iterate_json_records
from hanformer.errors import UserError

_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "id": ("id",),
    "text": ("original_text", "text", "question"),
    "equation": ("equation",),
    "answer": ("ans", "answer"),
    "kind": ("kind",),
}
SUFFIXES: Final = (".json", ".jsonl", ".zip", ".gz")


@dataclass(frozen=True)
class Problem:
    """One word problem: its text, the equation that solves it and the answer, as written. 一道应用题。"""

    id: str
    text: str
    equation: str
    answer: str | None
    kind: str = ""


def read_problems(path: str | Path) -> list[Problem]:
    """Read one file of problems: plain, gz or zip; JSON lines, a JSON list or concatenated JSON objects.

    读取一个题目文件；文件形式按内容识别。

    Raises: UserError naming the file, and the record where it cannot be read or lacks a field.
    """
    problems = [_problem(f"{path}: record {number}", values) for number, values in iterate_json_records(path)]
    if not problems:
        raise UserError(f"{path}: expected JSON records of problems, found none")
    return problems


def _problem(where: str, values: dict[str, object]) -> Problem:
    fields = {name: _text(where, values, name) for name in _ALIASES}
    missing = [name for name in ("id", "text", "equation") if fields[name] is None]
    if missing:
        names = ", ".join("/".join(_ALIASES[name]) for name in missing)
        raise UserError(f"{where}: the field {names} is missing; found {', '.join(values)[:80]}")
    return Problem(
        id=fields["id"] or "",
        text=fields["text"] or "",
        equation=fields["equation"] or "",
        answer=fields["answer"],
        kind=fields["kind"] or "",
    )


def _text(where: str, values: dict[str, object], name: str) -> str | None:
    found = next((values[key] for key in _ALIASES[name] if values.get(key) is not None), None)
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    raise UserError(f"{where}: the field {name} is {type(found).__name__}, expected text")
