"""The cost that a mechanism promises, counted instead of timed: numbers written, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hanformer.mechanisms import Linear, Local, Mechanism, Performer
from tests.harness import random_model, random_rows, run_packed, tiny_config

LINEAR: tuple[Mechanism, ...] = (
    Local(8),
    Linear(),
    Linear(features="cosine"),
    Linear(features="taylor"),
    Linear(rotates="features"),
    Performer(features=12),
)

#: A row of source and target, after an empty one (the harness gives the first row segments that return to 0).
ONE, TWICE = [0, 1024], [0, 2048]
#: Rows of which no two neighbours fit in one rectangle.
RAGGED = [3, 30, 7, 60, 1, 24] * 8


class Written(TorchDispatchMode):
    """Counts the numbers of every tensor that an operation makes; views make none."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        found = func(*args, **(kwargs or {}))
        if all(each.alias_info is None or each.alias_info.is_write for each in func._schema.returns):
            self.count += sum(leaf.numel() for leaf in tree_leaves(found) if isinstance(leaf, Tensor))
        return found


def written(changes: dict[str, object], lengths: list[int]) -> tuple[int, int]:
    """Numbers written by a forward pass in training, and by the backward pass."""
    config = tiny_config(layers=1, max_positions=max(lengths), **changes)
    model, rows = random_model(config, dtype=torch.float32).train(), random_rows(config, lengths)
    with Written() as seen:
        logits = run_packed(model, rows)[1]
        forward = seen.count
        logits.sum().backward()
    return forward, seen.count - forward


def grown(changes: dict[str, object], less: list[int], more: list[int]) -> list[float]:
    """How many times as much is written, each way, for other lengths of rows."""
    pairs = zip(written(changes, less), written(changes, more), strict=True)
    return [above / below for below, above in pairs]


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
@pytest.mark.parametrize("attention", LINEAR, ids=repr)
def test_twice_the_length_costs_twice(attention: Mechanism, application: str) -> None:
    changes = {"attention": attention, "application": application, "position": "rotary"}
    assert max(grown(changes, ONE, TWICE)) < 2.1


@pytest.mark.parametrize("changes", [{"attention_dropout": 0.1}, {"position": "alibi"}], ids=str)
def test_what_is_written_out_stays_in_the_window(changes: dict[str, object]) -> None:
    changes = {"attention": Local(8), "application": "lm", **changes}
    assert max(grown(changes, ONE, TWICE)) < 2.1


def test_the_count_tells_a_square() -> None:
    changes: dict[str, object] = {"attention": "taylor", "application": "lm"}
    assert min(grown(changes, ONE, TWICE)) > 3


@pytest.mark.parametrize("application", ["encoder", "unilm"])
@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "softmax"},
        {"attention": "softmax", "position": "relative_buckets"},
        {"attention": "softmax", "position": "relative_sinusoidal"},
        {"attention": "softmax", "residual_attention": True},
        {"attention": "taylor"},
        {"attention": "synthesizer"},
        {"attention": "gated_unit"},
        {"attention": "local", "attention_dropout": 0.1},
        {"attention": "linear"},
        {"attention": {"name": "linear", "rotates": "features"}, "position": "rotary"},
        {"attention": {"name": "performer", "features": 12}},
    ],
    ids=str,
)
def test_twice_the_rows_cost_twice(changes: dict[str, object], application: str) -> None:
    assert max(grown({**changes, "application": application}, RAGGED, 2 * RAGGED)) < 2.1
