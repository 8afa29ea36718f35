"""Softmax attention with a polynomial for exp: every check of a model, and beside it the definition."""

from __future__ import annotations

import math

import pytest
import torch

from hanformer.mechanisms import Taylor
from hanformer.models import load, save
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.passing import Pass
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Causal
from tests.harness import EXACT, check_cached_decoding, check_model, random_model, tiny_config


@pytest.mark.parametrize("application", ["encoder", "unilm"])
def test_model(application: str) -> None:
    check_model(tiny_config(attention=Taylor(), application=application))


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "relative_sinusoidal"},
        {"position": "relative_buckets"},
        {"position": "rotary"},
        {"residual_attention": True},
        {"key_value_heads": 1},
    ],
    ids=str,
)
def test_what_acts_on_logits(changes: dict[str, object]) -> None:
    check_cached_decoding(tiny_config(attention=Taylor(4, monotone=True), application="lm", **changes))


def test_definition() -> None:
    made = attention_of(tiny_config(attention=Taylor(4))).double()
    query, key, value = torch.randn(3, 6, 2, 8, dtype=torch.float64)
    found = made.mix(query, key, value, Pass(Causal().bind(Layout.of((6,)))))
    for head in range(2):
        product = query[:, head] @ key[:, head].T / math.sqrt(8)
        alike = sum(product**m / math.factorial(m) for m in range(5)).tril()
        expected = alike / alike.sum(-1, keepdim=True) @ value[:, head]
        torch.testing.assert_close(found[:, head], expected, **EXACT)


def test_a_checkpoint_of_softmax_attention(tmp_path: object) -> None:
    """All weights fit: nothing is new."""
    model = random_model(tiny_config(), dtype=torch.float32)
    save(model, tmp_path)
    other = load(tmp_path, attention="taylor")
    assert other.config.attention == Taylor()
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())
    ids = torch.randint(23, (1, 5))
    assert not torch.equal(model(ids).sequence, other(ids).sequence)
