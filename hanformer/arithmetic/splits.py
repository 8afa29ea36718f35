"""Folders of published problems: what is learned from, what is held out, and what is left out of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hanformer.arithmetic.overlap import signature, without_copies
from hanformer.arithmetic.records import SUFFIXES, Problem, read_problems
from hanformer.errors import UserError


@dataclass(frozen=True)
class Split:
    """Problems to learn from and problems held out; `copies` were left out as near copies of test problems.

    训练题与留出题；copies 为因与测试题雷同而去掉的题数。
    """

    train: list[Problem]
    test: list[Problem]
    valid: list[Problem] = field(default_factory=list)
    copies: int = 0


def read_split(path: str | Path) -> Split:
    """Read a file, or a folder with its files told apart by name: ``*test*``, ``*valid*``, ``*dev*``, train.

    读取文件或文件夹；名字含 test、valid、dev 的文件为留出集。

    A problem that stands in a held-out file, under the same id and with the same text, is kept out of train (Math23K
    publishes all problems in one file, and the test problems once more). A training file that shares no such problem
    with the test files is extra data: what differs from a test problem in its numbers alone is left out of it. A
    single file is all train.
    Raises: UserError, as `read_problems`.
    """
    path = Path(path)
    if not path.is_dir():
        return Split(train=read_problems(path), test=[])
    parts: dict[str, list[list[Problem]]] = {"train": [], "valid": [], "test": []}
    for file in _files(path):
        parts[_part(file.name.lower())].append(read_problems(file))
    test, valid = ([problem for found in parts[name] for problem in found] for name in ("test", "valid"))
    tested = set(map(_identity, test))
    valid = [problem for problem in valid if _identity(problem) not in tested]
    held_out = tested | set(map(_identity, valid))
    train: list[Problem] = []
    copies = 0
    for found in parts["train"]:
        own = [problem for problem in found if _identity(problem) not in held_out]
        is_extra = bool(test) and tested.isdisjoint(map(_identity, found))
        kept = without_copies(own, test, numbers_matter=False) if is_extra else own
        copies += len(own) - len(kept)
        train += kept
    return Split(train, test, valid, copies)


def is_training_file(name: str) -> bool:
    """Whether a file of a folder is learned from, by its name. 按文件名判断是否为训练文件。"""
    return _part(name.lower()) == "train"


def _identity(problem: Problem) -> tuple[str, str]:
    """Data sets number their problems alike: an id alone is no problem."""
    return problem.id, signature(problem.text)


def _files(folder: Path) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if file.name.lower().endswith(SUFFIXES)]
    if not files:
        raise UserError(f"{folder}: expected files ending in {', '.join(SUFFIXES)}, found none")
    return files


def _part(name: str) -> str:
    if "test" in name:
        return "test"
    return "valid" if "valid" in name or "dev" in name else "train"
