"""Recomputed blocks: the same loss and gradients, for every kind of attention, with dropout, in both architectures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import Mechanism, Performer
from hanformer.models import EncoderDecoder, build
from hanformer.nn.functional.packing import Layout
from hanformer.train.objective import Loss
from hanformer.train.recompute import recompute_blocks
from hanformer.train.tricks import tricks_named

BASE = {
    "vocab_size": 13,
    "hidden_size": 16,
    "layers": 3,
    "attention_heads": 2,
    "intermediate_size": 24,
    "max_positions": 32,
    "dropout": 0.2,
    "attention_dropout": 0.2,
    "application": "encoder",
    "initial_deviation": 0.3,
}
CASES: dict[str, dict[str, Any]] = {
    "post": {},
    "pre, causal": {"norm_place": "pre", "application": "lm"},
    "buckets": {"position": "relative_buckets", "norm": "rms", "feedforward": "gated"},
    "relative": {"position": "relative_sinusoidal"},
    "alibi": {"position": "alibi", "application": "lm"},
    "shared": {"share_layers": True},
    **{
        name: {"attention": Mechanism.named(name), "position": "none", "attention_dropout": 0.0}
        for name in ("linear", "performer", "synthesizer", "gated_unit", "local")
    },
}


def _gradients(model: nn.Module, forward: Any) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(3)
    loss = forward()
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), found


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_same_gradients(name: str) -> None:
    torch.manual_seed(1)
    model = build(ModelConfig(**{**BASE, **CASES[name]}))
    layout, ids = Layout.of([5, 1, 7]), torch.arange(13)

    def forward() -> Tensor:
        hidden = model.body(model.embed(ids, layout), layout)
        return (model.lm_logits(hidden).logsumexp(-1) * torch.arange(13)).sum()

    expected = _gradients(model, forward)
    recompute_blocks(model)
    _assert_same(_gradients(model, forward), expected)


def _assert_same(found: tuple[float, dict[str, Tensor]], expected: tuple[float, dict[str, Tensor]]) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-6) and found[1].keys() == expected[1].keys()
    for name in found[1]:
        torch.testing.assert_close(found[1][name], expected[1][name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("trick", ["gradient_penalty:0.5", "noise_penalty:0.5", "fgm", "vat"])
@pytest.mark.parametrize("name", ["post", "local", "pre, causal"])
def test_tricks_that_take_gradients_inside_the_objective(name: str, trick: str) -> None:
    """A penalty is computed where attention can be differentiated twice; the way back begins elsewhere."""
    torch.manual_seed(1)
    model = build(ModelConfig(**{**BASE, **CASES[name]}))
    layout, ids = Layout.of([5, 1, 7]), torch.arange(13)

    def plain(model: Any, batch: None) -> Loss:
        logits = model.lm_logits(model.body(model.embed(ids, layout), layout))
        return Loss((logits.logsumexp(-1) * torch.arange(13)).sum(), 13, {"logits": logits})

    objective = tricks_named([trick])(plain)
    expected = _gradients(model, lambda: objective(model, None).total)
    recompute_blocks(model)
    _assert_same(_gradients(model, lambda: objective(model, None).total), expected)


def test_features_of_a_performer_are_drawn_and_counted_once() -> None:
    """The way back of a pass meets the features of that pass, whatever was drawn since; two losses, several passes."""

    def steps(recompute: bool) -> list[Tensor]:
        torch.manual_seed(1)
        model = build(ModelConfig(**{**BASE, "attention": Performer(features=6, redraw=2)}))
        if recompute:
            recompute_blocks(model)
        found = []
        for _ in range(4):
            model.zero_grad()
            losses = [model(torch.arange(1, 13)[None]).sequence[..., :3].sin().sum() for _ in range(2)]
            losses[0].backward(retain_graph=True)
            sum(losses).backward()
            found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        return [*found, model.stack.blocks[0].attention.projection, model.stack.blocks[2].attention.passes]

    for again, once in zip(steps(True), steps(False), strict=True):
        torch.testing.assert_close(again, once, rtol=1e-5, atol=1e-6)


def test_encoder_and_decoder() -> None:
    torch.manual_seed(1)
    config = ModelConfig(**{**BASE, "decoder_layers": 2, "position": "relative_buckets"})
    model = EncoderDecoder(config).initialise()
    source, target = Layout.of([4, 3]), Layout.of([2, 5])
    ids = torch.arange(7)

    def forward() -> Tensor:
        hidden = model.decode(ids, target, model.encode(ids, source), source)
        return model.lm_logits(hidden).logsumexp(-1).sum()

    expected = _gradients(model, forward)
    recompute_blocks(model)
    assert len(expected[1]) == len(list(model.parameters()))
    _assert_same(_gradients(model, forward), expected)


def test_looking_at_attention_still_works() -> None:
    model = build(ModelConfig(**BASE)).eval()
    expected = model(torch.arange(1, 9)[None], attention_scores=True)
    recompute_blocks(model)
    found = model(torch.arange(1, 9)[None], attention_scores=True)
    assert found.attention_scores is not None and len(found.attention_scores) == 3
    torch.testing.assert_close(found.sequence, expected.sequence)


def test_what_cannot_be_recomputed_is_refused() -> None:
    with pytest.raises(UserError, match="residual attention"):
        recompute_blocks(build(ModelConfig(**{**BASE, "residual_attention": True})))
    with pytest.raises(UserError, match="Linear has no stack"):
        recompute_blocks(nn.Linear(2, 2))
