"""Cached decoding against reading everything anew."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models import Transformer
from tests.harness.material import EXACT, Rows, random_model, random_rows, run_packed


class UncachedState:
    """Decoding without a cache: rows are plain lists, read from their beginning at every step."""

    def __init__(self, model: Transformer, prompts: Rows) -> None:
        self.model, self.rows, self.length = model, prompts, 0
        self.segment = int(model.config.application == "unilm")

    def logits(self, count: int) -> Tensor:
        """[R, count, V]: logits after each of the last `count` tokens of every row."""
        logits = run_packed(self.model, self.rows)[1].split([len(row) for row in self.rows.ids])
        return torch.stack([row[-count:] for row in logits])

    def step(self, tokens: Tensor) -> Tensor:
        count = tokens.shape[1]
        ids = [[*row, *new] for row, new in zip(self.rows.ids, tokens.tolist(), strict=True)]
        self.rows = Rows(ids, [[*row, *[self.segment] * count] for row in self.rows.segments])
        self.length += count
        return self.logits(count)

    def select(self, rows: Sequence[int]) -> None:
        self.rows = Rows([self.rows.ids[row] for row in rows], [self.rows.segments[row] for row in rows])

    def truncate(self, length: int) -> None:
        cut = self.length - length
        kept = ([row[: len(row) - cut] for row in rows] for rows in (self.rows.ids, self.rows.segments))
        self.rows, self.length = Rows(*kept), length


#: What a decoding loop may do, in an order that meets every layout of prompts and rows.
DECODING: tuple[tuple[str, object], ...] = (
    ("step", 1),
    ("step", 3),
    ("select", [0, 0, 1, 1, 2, 2]),  # beams: rows of one prompt beside each other
    ("step", 2),
    ("select", [1, 0, 3, 3, 5, 4]),  # reordered within each prompt
    ("step", 1),
    ("truncate", 5),
    ("step", 1),
    ("select", [5, 0, 2]),  # prompts out of order
    ("step", 2),
    ("select", [2, 0, 0, 1, 2]),  # unequal numbers of rows
    ("step", 1),
    ("select", [1, 2]),  # prompts dropped, one left with two rows
    ("step", 1),
    ("truncate", 0),
    ("step", 2),
    ("select", [1]),
    ("step", 1),
    ("select", [0, 0, 0]),
    ("step", 1),
)


def check_cached_decoding(config: ModelConfig) -> None:
    """prompt and step give the logits of reading everything anew, whatever was selected or truncated.

    A state that cannot go back so far refuses, and goes on as if it had not been asked.
    """
    model = random_model(config)
    for lengths, actions in (((3, 1, 6), DECODING), ((4, 4, 4), DECODING[:4])):
        prompts = random_rows(config, lengths)
        uncached = UncachedState(model, prompts)
        logits, state = model.prompt(prompts.ids, prompts.segments)
        torch.testing.assert_close(logits, uncached.logits(1)[:, 0], **EXACT)
        for action, argument in actions:
            if action == "step":
                tokens = torch.randint(config.vocab_size, (len(uncached.rows.ids), argument))
                torch.testing.assert_close(model.step(tokens, state), uncached.step(tokens), **EXACT)
            elif action == "select":
                state.select(torch.tensor(argument))
                uncached.select(argument)
            elif argument < state.earliest:
                with pytest.raises(UserError, match="truncate: this state of fixed size"):
                    state.truncate(argument)
            else:
                state.truncate(argument)
                uncached.truncate(argument)
            assert state.length == uncached.length
