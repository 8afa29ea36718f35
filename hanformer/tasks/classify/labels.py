"""The names of classes: learned from data or read from a file, and kept with the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from hanformer.data.files import lines
from hanformer.errors import UserError
from hanformer.weights.atomic import write_text

LABELS_FILE = "labels.json"
_SHOWN = 8


@dataclass(frozen=True)
class ClassNames:
    """The classes in the order of the classifier's outputs; `numbered` where data may call them by their numbers.

    类别名称，次序与分类器输出一致；numbered 时数据中也可用编号。

    Raises UserError for fewer than two, an empty name, and one that comes twice.
    """

    names: tuple[str, ...]
    numbered: bool = False

    def __post_init__(self) -> None:
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated or not all(self.names):
            raise UserError(
                f"classes: expected names that are not empty and differ, got {repeated[:_SHOWN] or ['']}"
            )
        if len(self.names) < 2:
            raise UserError(
                f"classes: expected two or more, got {', '.join(self.names) or 'none'}; "
                "check which column holds the labels"
            )

    @classmethod
    def of_labels(cls, labels: Iterable[str]) -> ClassNames:
        """All labels that occur: numbers by size, then words."""
        return cls(tuple(sorted(set(labels), key=_by_number)))

    @classmethod
    def read(cls, path: str | Path) -> ClassNames:
        """A file with one name a line, blank lines left out; by their numbers too unless names are numbers."""
        names = tuple(line.strip() for line in lines(path) if line.strip())
        try:
            return cls(names, numbered=not any(name.isdecimal() for name in names))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def load(cls, folder: Path) -> ClassNames:
        """What `save` wrote."""
        path = folder / LABELS_FILE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(tuple(map(str, found["names"])), bool(found["numbered"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); the run folder is incomplete") from None

    def save(self, folder: str | Path) -> None:
        """Writes labels.json."""
        written = json.dumps({"names": list(self.names), "numbered": self.numbered}, ensure_ascii=False)
        write_text(Path(folder) / LABELS_FILE, written + "\n")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def number(self, label: str, where: str) -> int:
        """The output of a class, by its name, or its number where it has one; raises UserError, with the place."""
        found = self._numbers.get(label)
        if found is not None:
            return found
        if self.numbered and label.isascii() and label.isdecimal() and int(label) < len(self):
            return int(label)
        shown = ", ".join(self.names[:_SHOWN]) + (", ..." if len(self) > _SHOWN else "")
        numbers = f", and no number from 0 to {len(self) - 1}" if self.numbered else ""
        raise UserError(f"{where}: the label {label!r} is none of the {len(self)} classes ({shown}){numbers}")

    def targets(self, rows: Sequence[Sequence[str]]) -> Tensor:
        """Labels as bool [N, K]; all of them must be known."""
        found = torch.zeros(len(rows), len(self), dtype=torch.bool)
        for row, labels in enumerate(rows):
            for label in labels:
                found[row, self.number(label, f"example {row + 1}")] = True
        return found

    def complaint_of_empty(self, targets: Tensor) -> str:
        """What is to be said of classes that have no row in bool [N, K]; nothing where all have. 指出空类别。"""
        empty = [name for name, count in zip(self.names, targets.sum(0).tolist(), strict=True) if not count]
        shown = ", ".join(empty[:_SHOWN])
        return f"{len(empty)} classes have no training row ({shown})" if empty else ""


def _by_number(label: str) -> tuple[bool, int, str]:
    whole = label.isascii() and label.removeprefix("-").isdecimal()
    return (not whole, int(label) if whole else 0, label)
