"""The first tokens of a stack are those of all its tokens, whatever the layers are like."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.models.first_tokens import first_places, first_tokens
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout
from tests.harness import random_model, tiny_config
from tests.harness.material import EXACT, random_rows

KINDS: dict[str, dict[str, Any]] = {
    "post-norm": {},
    "pre-norm": {"norm_place": "pre"},
    "GPT2-ML": {"norm_place": "feedforward"},
    "NEZHA": {"position": "relative_sinusoidal", "relative_distance": 3},
    "T5": {"position": "relative_buckets", "norm_place": "pre", "norm": "rms", "biases": "none"},
    "rotary": {"position": "rotary"},
    "shared layers": {"share_layers": True, "layers": 3},
    "one layer": {"layers": 1},
    "grouped keys": {"key_value_heads": 1},
    "RealFormer": {"residual_attention": True},
    "language model": {"application": "lm"},
    "UniLM": {"application": "unilm"},
}


@cache
def model_of(kind: str) -> Transformer:
    """One random model of a kind."""
    return random_model(tiny_config(**KINDS[kind]), ())


def both(model: Transformer, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The short way and the definition."""
    rows = random_rows(model.config, lengths)
    embedded = model.embed(rows.packed, rows.layout)
    return first_tokens(model.stack, embedded, rows.layout), model.body(embedded, rows.layout)[
        first_places(rows.layout)
    ]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_equals_the_whole_stack(kind: str, lengths: list[int]) -> None:
    short, whole = both(model_of(kind), tuple(lengths))
    torch.testing.assert_close(short, whole, **EXACT)


def test_positions_that_were_named_count() -> None:
    model = random_model(tiny_config(position="rotary"), ())
    layout = Layout.of([3, 2], positions=torch.tensor([4, 1, 0, 2, 7]))
    embedded = model.embed(torch.arange(5), layout)
    expected = model.body(embedded, layout)[[0, 3]]
    torch.testing.assert_close(first_tokens(model.stack, embedded, layout), expected, **EXACT)


def test_the_last_layer_works_for_first_tokens_alone() -> None:
    model = random_model(tiny_config(), ())
    rows: list[tuple[int, int]] = []
    for number, (_, block) in enumerate(model.stack.each()):
        block.feedforward.register_forward_hook(
            lambda module, given, found, number=number: rows.append((number, len(found)))
        )
    both(model, (4, 2, 5))
    assert rows == [(0, 11), (1, 3), (0, 11), (1, 11)]


def test_an_attention_of_another_kind_runs_whole() -> None:
    """It may need every query, as one that sums from left to right does."""
    model = random_model(tiny_config(), ())
    last = model.stack.blocks[-1].attention
    last.__class__ = type("Other", (type(last),), {})
    seen: list[int] = []
    last.register_forward_hook(lambda module, given, found: seen.append(len(found)))
    short, whole = both(model, (4, 2))
    assert seen == [6, 6]
    torch.testing.assert_close(short, whole, **EXACT)


def test_gradients_reach_every_token() -> None:
    model = random_model(tiny_config(), ())
    rows = random_rows(model.config, (4, 2))
    embedded = model.embed(rows.packed, rows.layout).detach().requires_grad_()
    found = first_tokens(model.stack, embedded, rows.layout).square().sum()
    whole = model.body(embedded, rows.layout)[first_places(rows.layout)].square().sum()
    torch.testing.assert_close(
        torch.autograd.grad(found, embedded)[0], torch.autograd.grad(whole, embedded)[0], **EXACT
    )
