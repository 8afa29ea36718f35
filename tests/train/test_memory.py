"""The arithmetic of memory: published sizes, what autograd really keeps, and what sharding and recomputing save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.memory import MODELS, SETTINGS, cells, row, words
from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.lab.attention import bytes_kept
from hanformer.models import Transformer, build
from hanformer.nn.functional import written
from hanformer.nn.functional.packing import Layout
from hanformer.train.memory import (
    CPM_LM,
    GIBIBYTE,
    MT5_XL,
    activation_bytes,
    parameter_count,
    training_memory,
)
from hanformer.train.recompute import recompute_blocks

TOKENS = 512
PLAIN = {"application": "lm"}
GATED = {
    "application": "lm",
    "norm_place": "pre",
    "norm": "rms",
    "feedforward": "gated",
    "biases": "none",
    "activation": "gelu_tanh",
}


def test_published_sizes() -> None:
    """12 layers' worth of 12 C² and the tables, by hand; mT5-XL has 3.7 billion in its paper."""
    hidden, layers = 2560, 32
    block = 12 * hidden**2 + 13 * hidden
    assert parameter_count(CPM_LM) == layers * block + (30000 + 1024 + 2) * hidden
    assert round(parameter_count(MT5_XL) / 1e9, 1) == 3.7
    assert parameter_count(MT5_XL) == 3_742_619_648


def _kept(model: Transformer) -> int:
    layout = Layout.of([TOKENS // 2] * 2)
    ids = torch.arange(TOKENS) % 50

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model.body(model.embed(ids, layout), layout)

    return bytes_kept(model, forward)


def _config(changes: dict[str, Any], layers: int) -> ModelConfig:
    sizes = {"hidden_size": 64, "attention_heads": 4, "intermediate_size": 256, "max_positions": TOKENS}
    rates = {"dropout": 0.0, "attention_dropout": 0.0}
    return ModelConfig(vocab_size=50, layers=layers, **{**sizes, **rates, **changes})


@pytest.mark.parametrize("changes", [PLAIN, GATED], ids=["plain", "gated"])
def test_the_estimate_is_near_what_autograd_keeps(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "LONGEST", 0)  # as a fused kernel
    deep, flat = (build(_config(changes, layers)) for layers in (5, 1))
    copies = 2 * sum(p.numel() for p in deep.stack.blocks[0].parameters() if p.ndim == 2)
    measured = (_kept(deep) - _kept(flat)) / 4 - copies
    assert TOKENS * activation_bytes(_config(changes, 1)) == pytest.approx(measured, rel=0.1)


def test_a_cpu_keeps_the_weights_of_short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(_config(PLAIN, 3))
    kept = _kept(model)
    monkeypatch.setattr(written, "LONGEST", 0)
    results = 3 * TOKENS * (2 * 64 + 4 * 4)  # what attention gives, in bf16, and a log-sum-exp for each head
    assert kept - _kept(model) == pytest.approx(3 * TOKENS * 4 * (TOKENS // 2) * 2 - results, rel=0.1)


def test_recomputing_keeps_the_input_of_each_block_alone() -> None:
    deep, flat = (build(_config(PLAIN, layers)) for layers in (5, 1))
    before = _kept(deep)
    for model in (deep, flat):
        recompute_blocks(model)
    assert (_kept(deep) - _kept(flat)) / 4 == pytest.approx(TOKENS * 64 * 4, rel=0.01)
    assert _kept(deep) < before / 6


def test_sharding_divides_what_stays() -> None:
    whole, part = training_memory(CPM_LM, 1024), training_memory(CPM_LM, 1024, workers=8, shard=True)
    assert whole.weights == 4 * whole.parameters and whole.optimizer == 8 * whole.parameters
    assert (
        part.optimizer == pytest.approx(whole.optimizer / 8, abs=8) and part.activations == whole.activations
    )
    assert training_memory(CPM_LM, 1024, workers=8).weights == whole.weights
    tight = training_memory(CPM_LM, 1024, workers=8, shard=True, recompute=True)
    assert tight.total < 12 * GIBIBYTE < 40 * GIBIBYTE < whole.total
    assert training_memory(CPM_LM, 1, average=True).average == whole.weights


def test_the_document_holds_what_the_benchmark_prints() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    for config in MODELS.values():
        assert f"{parameter_count(config):,} parameters" in text
        for setting in SETTINGS:
            line = " | ".join([words(setting), *cells(row(config, 4096, setting))])
            assert f"| {line} |" in text


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(UserError, match="at least 1 token and 1 worker"):
        training_memory(CPM_LM, 1, workers=0)
