"""Packed models compute the same, leave the given one alone, and fall back where nothing can be packed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hanformer.decode import Beam, Greedy, generate
from hanformer.mechanisms import GatedUnit, Linear, Local, Synthesizer
from hanformer.nn.layers.prepacked import PackedHead, PackedLinear, prepacked
from tests.harness import random_model, tiny_config
from tests.similarity.tiny import tiny_t5

PROMPTS = [[1, 5, 6, 7, 2], [1, 9, 2], [1, 4, 4, 8, 10, 11, 3, 2]]
CHOICES = (
    {},
    {"lm_head": "tied", "norm_place": "pre"},
    {"lm_head": "mapped", "embedding_size": 8, "biases": "none"},
    {"lm_head": "untied", "feedforward": "gated"},
    {"position": "rotary", "share_layers": True},
)


def models():
    for number, choices in enumerate(CHOICES):
        application = ("lm", "unilm")[number % 2]
        yield random_model(tiny_config(application=application, **choices), dtype=torch.float32)
    yield tiny_t5()


def test_logits_and_ids_are_the_same() -> None:
    for model in models():
        fast = prepacked(model)
        assert type(fast) is type(model) and isinstance(fast.lm_head, PackedHead)
        for rule in (Greedy(), Beam(3, 2)):
            found = []
            for each in (model, fast):
                logits, state = each.prompt(PROMPTS)
                found.append(
                    (logits, generate(each.step, state, logits, rule=rule, end_id=2, maximum_length=5))
                )
            torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
            assert [[each.tokens for each in row] for row in found[0][1]] == [
                [each.tokens for each in row] for row in found[1][1]
            ]


def test_the_given_model_is_left_alone() -> None:
    model = random_model(tiny_config(application="lm"), dtype=torch.float32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = prepacked(model)
    assert not any(isinstance(module, (PackedLinear, PackedHead)) for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert fast.embeddings.token.weight is model.embeddings.token.weight
    attentions = [block.attention for block in fast.stack.blocks]
    assert all(isinstance(attention.joined, PackedLinear) for attention in attentions)
    joined = {layer for attention in attentions for layer in attention.joinable()}
    assert {module for module in fast.stack.modules() if type(module) is nn.Linear} == joined


@pytest.mark.parametrize(
    "changes",
    [
        {"key_value_heads": 1, "attention_key_size": 6},
        {"attention": Synthesizer("dense", "plus")},
        {"attention": GatedUnit(key_size=6), "attention_heads": 1},
        {"attention": Linear()},
        {"attention": Local(radius=2), "position": "rotary"},
    ],
    ids=str,
)
def test_mechanisms(changes: dict[str, object]) -> None:
    """Joined or not: the same logits, of prompts and of steps."""
    model = random_model(tiny_config(application="lm", max_positions=16, **changes), dtype=torch.float32)
    fast, tokens = prepacked(model), torch.tensor([[4], [5], [6]])
    (expected, state), (found, other) = model.prompt(PROMPTS), fast.prompt(PROMPTS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for _ in range(2):
        torch.testing.assert_close(fast.step(tokens, other), model.step(tokens, state), rtol=1e-4, atol=1e-4)
    ids = torch.randint(23, (2, 7))
    torch.testing.assert_close(fast(ids).sequence, model(ids).sequence, rtol=1e-4, atol=1e-4)


def test_half_precision_stays_near() -> None:
    model = random_model(tiny_config(application="lm"), dtype=torch.bfloat16)
    expected, found = model.prompt(PROMPTS)[0].float(), prepacked(model).prompt(PROMPTS)[0].float()
    assert float((found - expected).norm()) < 0.05 * float(expected.norm())


def test_what_cannot_be_packed_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = random_model(tiny_config(application="lm"))
    assert not any(isinstance(module, PackedLinear) for module in prepacked(wide).modules())
    torch.testing.assert_close(prepacked(wide).prompt(PROMPTS)[0], wide.prompt(PROMPTS)[0], rtol=0, atol=0)
    model = random_model(tiny_config(application="lm"), dtype=torch.float32)
    monkeypatch.setattr(PackedLinear, "forward", lambda self, hidden: hidden.sum() * 1e9)
    assert not any(isinstance(module, PackedLinear) for module in prepacked(model).modules())
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not any(isinstance(module, PackedLinear) for module in prepacked(model).modules())
