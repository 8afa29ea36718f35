"""Labels of a chain: which there are, which may follow which, and the spans that they stand for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.tasks.tag.spans import TaggedText, spans_of_tags, split_tag
from hanformer.weights.atomic import write_text

LETTERS: Final[dict[str, str]] = {"bio": "BI", "bmes": "BMES"}
"""How labels are written -> the letters before a kind. 标注体系。"""
KINDS_FILE = "kinds.json"

TokenSpan = tuple[int, int, int]
"""(number of the kind, first token, end) of a span. 词元片段。"""


@dataclass(frozen=True)
class LabelSet:
    """The labels of some kinds of spans; `outside` is off where spans cover the text, as words do.

    标签集合。
    """

    kinds: tuple[str, ...]
    form: str
    outside: bool = True

    @cached_property
    def names(self) -> tuple[str, ...]:
        """O first, if there is one; then B-, I- ... of each kind."""
        of_kinds = (f"{letter}-{kind}" for kind in self.kinds for letter in LETTERS[self.form])
        return (*(("O",) if self.outside else ()), *of_kinds)

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, spans: Iterable[TokenSpan], length: int) -> list[int]:
        """The label of each of `length` tokens; where spans overlap, later ones win. 片段转标签编号。"""
        width, first = len(LETTERS[self.form]), int(self.outside)
        labels = [0] * length
        for kind, start, end in spans:
            letters = _letters(self.form, end - start)
            labels[start:end] = [first + kind * width + letter for letter in letters]
        return labels

    def decode(self, labels: Sequence[int]) -> list[TokenSpan]:
        """The spans that labels stand for. 标签编号转片段。"""
        number = {kind: place for place, kind in enumerate(self.kinds)}
        found = spans_of_tags([self.names[label] for label in labels])
        return [(number[kind], start, end) for kind, start, end in found]

    @cached_property
    def legal(self) -> Tensor:
        """0 where label j may follow label i, −inf elsewhere: [K, K]. 合法转移。"""
        allowed = [[self._follows(left, right) for right in self.names] for left in self.names]
        return torch.zeros(len(self), len(self)).masked_fill(~torch.tensor(allowed), -math.inf)

    @cached_property
    def starts(self) -> list[int]:
        """The labels that a text may begin with: those that may follow O."""
        return [place for place, name in enumerate(self.names) if self._follows("O", name)]

    @cached_property
    def ends(self) -> list[int]:
        """The labels that a text may end with: those that O may follow."""
        return [place for place, name in enumerate(self.names) if self._follows(name, "O")]

    def _follows(self, left: str, right: str) -> bool:
        letter, kind = split_tag(left)
        next_letter, next_kind = split_tag(right)
        if next_letter in "IME":
            return letter in "BIM" and kind == next_kind
        return self.form == "bio" or letter not in "BM"


def _letters(form: str, length: int) -> list[int]:
    """The letters of a span by their places in LETTERS: B I I; S, or B M E."""
    if form == "bio":
        return [0] + [1] * (length - 1)
    return [3] if length == 1 else [0, *[1] * (length - 2), 2]


def kinds_of(texts: Iterable[TaggedText]) -> tuple[str, ...]:
    """The kinds of spans that there are, sorted. 数据中的全部类型。"""
    return tuple(sorted({span.kind for text in texts for span in text.spans}))


def save_kinds(kinds: Sequence[str], folder: Path) -> None:
    """Writes kinds.json. 保存类型。"""
    write_text(folder / KINDS_FILE, json.dumps(list(kinds), ensure_ascii=False) + "\n")


def load_kinds(folder: Path) -> tuple[str, ...]:
    """Reads kinds.json; raises UserError where it is missing or broken. 读取类型。"""
    path = folder / KINDS_FILE
    try:
        kinds = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); the run folder is incomplete") from None
    if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, str) for kind in kinds):
        raise UserError(f"{path}: expected a list of names, got {kinds!r}; the run folder is broken")
    return tuple(kinds)
