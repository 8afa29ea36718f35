"""Word problems as records, and the readers of Math23K and Ape210k files as they are published.

应用题记录，以及 Math23K 与 Ape210k 公开文件的读取。

Source: Math23K (Wang et al. 2017, Deep Neural Solver), Ape210k (arXiv 2009.11506).
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
_SUFFIXES: Final = (".json", ".jsonl", ".zip", ".gz")


@dataclass(frozen=True)
class Problem:
    """One word problem: its text, the equation that solves it and the answer, as written. 一道应用题。"""

    id: str
    text: str
    equation: str
    answer: str | None
    kind: str = ""


@dataclass(frozen=True)
class Split:
    """Problems to learn from and problems held out. 训练题与留出题。"""

    train: list[Problem]
    test: list[Problem]
    valid: list[Problem] = field(default_factory=list)


def read_problems(path: str | Path) -> list[Problem]:
    """Read one file of problems: plain, gz or zip; JSON lines, a JSON list or concatenated JSON objects.

    读取一个题目文件；文件形式按内容识别。

    Raises: UserError naming the file, and the record where it cannot be read or lacks a field.
    """
    problems = [_problem(f"{path}: record {number}", values) for number, values in iterate_json_records(path)]
    if not problems:
        raise UserError(f"{path}: expected JSON records of problems, found none")
    return problems


def read_split(path: str | Path) -> Split:
    """Read a file, or a folder with its files told apart by name: ``*test*``, ``*valid*``, ``*dev*``, train.

    读取文件或文件夹；名字含 test、valid、dev 的文件为留出集。

    A problem whose id stands in a held-out file is kept out of train (Math23K publishes all problems in one
    file, and the test problems once more). A single file is all train.
    Raises: UserError, as `read_problems`.
    """
    path = Path(path)
    if not path.is_dir():
        return Split(train=read_problems(path), test=[])
    parts: dict[str, list[Problem]] = {"train": [], "valid": [], "test": []}
    for file in _files(path):
        parts[_part(file.name.lower())] += read_problems(file)
    test = parts["test"]
    test_ids = {problem.id for problem in test}
    valid = [problem for problem in parts["valid"] if problem.id not in test_ids]
    held_out = test_ids | {problem.id for problem in valid}
    train = [problem for problem in parts["train"] if problem.id not in held_out]
    return Split(train, test, valid)


def _files(folder: Path) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if file.name.lower().endswith(_SUFFIXES)]
    if not files:
        raise UserError(f"{folder}: expected files ending in {', '.join(_SUFFIXES)}, found none")
    return files


def _part(name: str) -> str:
    if "test" in name:
        return "test"
    return "valid" if "valid" in name or "dev" in name else "train"


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
