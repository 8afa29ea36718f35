"""From scores to labels: the highest, or all above a threshold that is kept with the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.multilabel import best_thresholds
from hanformer.weights.atomic import write_text

THRESHOLDS = ("auto", "zero", "tuned", "tuned_each")
THRESHOLDS_FILE = "thresholds.json"


class Decision(Protocol):
    """Which labels scores stand for. 由打分得到标签。"""

    def learn(self, scores: Tensor, targets: Tensor) -> None:
        """Takes from scores [N, K] and true labels, bool [N, K], what there is to be learned."""
        ...

    def decide(self, scores: Tensor) -> Tensor:
        """Scores [N, K] to labels, bool [N, K]."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what was learned."""
        ...

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote; raises UserError for a missing or broken file."""
        ...


class Highest:
    """The class of the highest score, always one. 取得分最高的一类。"""

    def learn(self, scores: Tensor, targets: Tensor) -> None:
        """There is nothing to learn."""

    def decide(self, scores: Tensor) -> Tensor:
        """One True a row."""
        return F.one_hot(scores.argmax(-1), scores.shape[-1]).bool()

    def save(self, folder: Path) -> None:
        """There is nothing to write."""

    def load(self, folder: Path) -> None:
        """There is nothing to read."""


class Above:
    """Every class whose score is above its threshold; `word` says how thresholds are chosen: zero, tuned, tuned_each.

    取所有得分高于阈值的类；阈值为零、统一调优或逐类调优。
    """

    def __init__(self, word: str, classes: int) -> None:
        self.word, self.thresholds = word, torch.zeros(classes)

    def learn(self, scores: Tensor, targets: Tensor) -> None:
        """Chooses thresholds by F1; zero stays zero."""
        if self.word == "tuned_each":
            self.thresholds = best_thresholds(scores, targets)
        if self.word == "tuned":
            together = best_thresholds(scores.reshape(-1, 1), targets.reshape(-1, 1))
            self.thresholds = together.expand(scores.shape[-1]).clone()

    def decide(self, scores: Tensor) -> Tensor:
        """score > threshold."""
        return scores > self.thresholds.to(scores.device)

    def save(self, folder: Path) -> None:
        """Writes thresholds.json."""
        write_text(folder / THRESHOLDS_FILE, json.dumps(self.thresholds.tolist()) + "\n")

    def load(self, folder: Path) -> None:
        """Reads thresholds.json."""
        path = folder / THRESHOLDS_FILE
        try:
            found = torch.tensor(json.loads(path.read_text(encoding="utf-8")), dtype=torch.float32)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); the run folder is incomplete") from None
        if found.shape != self.thresholds.shape:
            raise UserError(
                f"{path}: expected {len(self.thresholds)} thresholds, got {list(found.shape)}; "
                "the run folder is broken"
            )
        self.thresholds = found


def decision_of(many: bool, thresholds: str, tuned: bool, classes: int) -> Decision:
    """The decision of a recipe; `auto` is tuned where the loss wants it, else zero. 按配方取判定方式。"""
    if not many:
        return Highest()
    word = ("tuned" if tuned else "zero") if thresholds == "auto" else thresholds
    return Above(word, classes)
