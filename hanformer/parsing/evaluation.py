"""How well a trained run predicts text: the perplexity of the parts that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hanformer.errors import UserError
from hanformer.models.recurrent_lm import RecurrentLm
from hanformer.models.recurrent_store import load_recurrent
from hanformer.parsing.running_text import read_judged
from hanformer.parsing.training import TASK, judged_streams, perplexity
from hanformer.parsing.words import Words
from hanformer.train.data_files import fingerprints
from hanformer.train.runs import open_run


@dataclass(frozen=True)
class Judged:
    """The perplexity of a text, and the share of its words that the model does not know.

    困惑度与未知词比例。

    Unknown words are alike to the model, and easy to guess: perplexities of texts with other shares tell little.
    """

    perplexity: float
    unknown: float

    def __str__(self) -> str:
        return f"{self.perplexity:.2f} ({self.unknown:.1%} of words unknown)"


def measure_text(
    run: str | Path, data: str | Path, *, device: str | torch.device = "cpu"
) -> dict[str, Judged]:
    """Perplexity of the parts valid and test of running text, of those that there are, under a run of "recurrent".

    在验证、测试文本上的困惑度。

    A text without parts is judged as a whole, under the name text; where the run was trained on it, only what was held
    out of it is, as valid. Perplexity is over the run's own vocabulary: figures of different vocabularies must not be
    compared. Raises UserError for a folder that is no such run, and for unusable text, also where there is none, or
    where the model knows no word of it.
    """
    folder, description = open_run(run, TASK)
    model, words = load_recurrent(folder, device=device), Words.load(folder)
    found = {
        name: _judge(model, words, str(data) if name == "text" else f"{data}, part {name}", lines)
        for name, lines in read_judged(data, _was_trained_on(description, data)).items()
    }
    if not found:
        raise UserError(f"{data}: holds no part valid or test to judge on")
    return found


def _judge(model: RecurrentLm, words: Words, name: str, lines: Sequence[str]) -> Judged:
    unknown = words.unknown_share(map(words.cut, lines))
    if unknown == 1:
        raise UserError(
            f"{name}: the model knows no word of this text, whose perplexity would say nothing; its own was cut by "
            f"{words.segment}: give text that is written as that is"
        )
    return Judged(perplexity(model, judged_streams(words.stream(lines))), unknown)


def _was_trained_on(description: Mapping[str, Any], data: str | Path) -> bool:
    """Whether these are all the data of the run, by their path or by what the files hold."""
    known = sorted(description.get("files", {}).values())
    return str(data) == description.get("data") or sorted(fingerprints(str(data)).values()) == known != []
