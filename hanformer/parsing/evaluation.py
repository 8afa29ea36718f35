"""How well a trained run predicts text: the perplexity of the parts that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from hanformer.models.recurrent_store import load_recurrent
from hanformer.parsing.running_text import read_parts
from hanformer.parsing.training import TASK, judged_streams, perplexity
from hanformer.parsing.words import Words
from hanformer.train.runs import open_run


def measure_text(
    run: str | Path, data: str | Path, *, device: str | torch.device = "cpu"
) -> dict[str, float]:
    """Perplexity of the parts valid and test of running text, of those that there are, under a run of "recurrent".

    在验证、测试文本上的困惑度。

    Perplexity is over the run's own vocabulary: figures of different vocabularies must not be compared.
    Raises UserError for a folder that is no such run, and unusable text.
    """
    folder, _ = open_run(run, TASK)
    model, words, parts = load_recurrent(folder, device=device), Words.load(folder), read_parts(data)
    named = {"valid": parts.valid, "test": parts.test}
    return {
        name: perplexity(model, judged_streams(words.stream(lines))) for name, lines in named.items() if lines
    }
