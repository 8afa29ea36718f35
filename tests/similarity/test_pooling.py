"""Pooling by its definition, row by row."""

from __future__ import annotations

import pytest
import torch

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.similarity.pooling import last_token, mean_of_tokens, run_of
from tests.similarity.tiny import tiny_encoder, tiny_t5

LENGTHS = (3, 1, 5)


def test_each_equals_its_definition() -> None:
    hidden, layout = torch.randn(9, 4, dtype=torch.float64), Layout.of(LENGTHS)
    rows = hidden.split(LENGTHS)
    assert torch.equal(last_token(hidden, layout), torch.stack([row[-1] for row in rows]))
    expected = torch.stack([sum(row) / len(row) for row in rows])
    torch.testing.assert_close(mean_of_tokens(hidden, layout), expected)


def test_the_mean_of_halves_is_summed_in_float32() -> None:
    """In bf16 a running sum of 1 stops at 256."""
    hidden = torch.ones(1000, 1, dtype=torch.bfloat16)
    assert mean_of_tokens(hidden, Layout.of((1000,))).item() == 1.0


def test_pooled_is_the_pooler_of_the_model() -> None:
    model, layout = tiny_encoder(), Layout.of(LENGTHS)
    ids = torch.arange(9)
    hidden = model.body(model.embed(ids, layout), layout)
    assert model.pooler is not None
    expected = model.pooler(torch.stack([row[0] for row in hidden.split(LENGTHS)]))
    torch.testing.assert_close(run_of("pooled", model)(ids, layout), expected)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="one of cls, mean, pooled, last"):
        run_of("max", tiny_encoder())
    for model in (tiny_encoder(heads=("lm",)), tiny_t5()):
        with pytest.raises(UserError, match="no pooler"):
            run_of("pooled", model)
