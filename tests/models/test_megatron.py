"""Model-parallel files: what ranks hold of a model is merged back exactly, and nothing is merged that does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models import load
from hanformer.weights.source import open_source
from tests.harness import tiny_config
from tests.harness.material import random_model

CONFIG: dict[str, Any] = {
    "vocab_size": 24,
    "n_embd": 12,
    "n_layer": 2,
    "n_head": 6,
    "n_inner": 48,
    "n_positions": 10,
}
SLICED = {
    "word_embeddings.weight": 0,
    "mlp.dense_h_to_4h.weight": 0,
    "mlp.dense_h_to_4h.bias": 0,
    "attention.dense.weight": 1,
    "mlp.dense_4h_to_h.weight": 1,
}


def whole_model() -> dict[str, Tensor]:
    """A random model under Megatron's names, query, key and value apart."""
    generator = torch.Generator().manual_seed(3)
    hidden, shapes = 12, {"word_embeddings.weight": (24, 12), "position_embeddings.weight": (10, 12)}
    for layer in ("transformer.layers.0", "transformer.layers.1"):
        for part in ("query", "key", "value", "dense"):
            shapes[f"{layer}.attention.{part}.weight"] = (hidden, hidden)
            shapes[f"{layer}.attention.{part}.bias"] = (hidden,)  # type: ignore[assignment]
        shapes[f"{layer}.mlp.dense_h_to_4h.weight"] = (48, hidden)
        shapes[f"{layer}.mlp.dense_h_to_4h.bias"] = (48,)  # type: ignore[assignment]
        shapes[f"{layer}.mlp.dense_4h_to_h.weight"] = (hidden, 48)
        shapes[f"{layer}.mlp.dense_4h_to_h.bias"] = (hidden,)  # type: ignore[assignment]
    norms = [f"transformer.layers.{n}.{k}_layernorm" for n in (0, 1) for k in ("input", "post_attention")]
    for norm in [*norms, "transformer.final_layernorm"]:
        shapes |= {f"{norm}.weight": (hidden,), f"{norm}.bias": (hidden,)}  # type: ignore[dict-item]
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def share(whole: dict[str, Tensor], rank: int, ranks: int) -> dict[str, Tensor]:
    """What one rank holds, by the definition of the layout."""
    held: dict[str, Tensor] = {}
    for name, value in whole.items():
        axis = next((axis for end, axis in SLICED.items() if name.endswith(end)), None)
        held[name] = value if axis is None else value.chunk(ranks, axis)[rank].clone()
    for layer in ("transformer.layers.0", "transformer.layers.1"):
        for kind in ("weight", "bias"):
            parts = [held.pop(f"{layer}.attention.{part}.{kind}") for part in ("query", "key", "value")]
            fused = torch.cat([part.chunk(ranks)[rank] for part in parts])
            held[f"{layer}.attention.query_key_value.{kind}"] = fused
    return held


def file_of(folder: Path, rank: int) -> Path:
    return folder / f"mp_rank_{rank:02}_model_states.pt"


def write_ranks(folder: Path, whole: dict[str, Tensor], ranks: int, inner: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
        module = {inner + name: value for name, value in share(whole, rank, ranks).items()}
        torch.save({"module": module, "optimizer": None, "iteration": 80000}, file_of(folder, rank))
    return folder


@pytest.mark.parametrize("inner", ["", "module."])
@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_ranks_merge_to_the_model_they_were_cut_from(tmp_path: Path, ranks: int, inner: str) -> None:
    whole = whole_model()
    source = open_source(write_ranks(tmp_path, whole, ranks, inner))
    assert set(source.names()) == set(whole)
    for name, value in whole.items():
        assert torch.equal(source.read(name), value), name
        assert source.info(name).shape == tuple(value.shape) and source.info(name).dtype == value.dtype


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_merged_model_computes_what_the_whole_one_does(tmp_path: Path, ranks: int) -> None:
    model = load(write_ranks(tmp_path, whole_model(), ranks), config=CONFIG)
    assert (model.config.family, model.config.application) == ("cpm", "lm")
    assert model.config.activation == "gelu_tanh" and model.config.norm_epsilon == 1e-5
    peer = random_model(model.config, dtype=torch.float32)
    peer.load_state_dict({name: in_our_words(name) for name in peer.state_dict()})
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [23, 0, 7, 8, 2, 8, 1, 8]])
    assert torch.equal(model(ids).lm_logits, peer(ids).lm_logits)


def in_our_words(name: str) -> Tensor:
    words = {
        "embeddings.token": "word_embeddings",
        "embeddings.position": "position_embeddings",
        "stack.final_norm": "transformer.final_layernorm",
        "stack.blocks.": "transformer.layers.",
        "attention_norm": "input_layernorm",
        "feedforward_norm": "post_attention_layernorm",
        "attention.output": "attention.dense",
        "feedforward.expand": "mlp.dense_h_to_4h",
        "feedforward.contract": "mlp.dense_4h_to_h",
    }
    for ours, theirs in words.items():
        name = name.replace(ours, theirs)
    return whole_model()[name]


def test_the_iteration_file_leads_to_the_ranks(tmp_path: Path) -> None:
    write_ranks(tmp_path / "80000", whole_model(), 2)
    with pytest.raises(UserError, match="no checkpoint in it"):
        open_source(tmp_path)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("80000\n", encoding="utf-8")
    merged = open_source(tmp_path)
    assert merged.info("word_embeddings.weight").shape == (24, 12)
    alone = open_source(file_of(tmp_path / "80000", 1))
    assert merged.names() == alone.names()


@pytest.mark.parametrize("word", ["90000", "../80000", "", "/etc", "80000/../80000"])
def test_an_iteration_that_is_not_there(tmp_path: Path, word: str) -> None:
    write_ranks(tmp_path / "80000", whole_model(), 2)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text(word, encoding="utf-8")
    with pytest.raises(UserError, match=r"latest_checkpointed_iteration\.txt names .* no such folder"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (0, "mp_rank_00_model_states.pt is missing"),
        (1, "mp_rank_01"),
        (2, "one rank of 3, but the folder has 2"),
    ],
)
def test_a_missing_rank(tmp_path: Path, gone: int, said: str) -> None:
    file_of(write_ranks(tmp_path, whole_model(), 3), gone).unlink()
    with pytest.raises(UserError, match=said):
        open_source(tmp_path)


def change_rank(folder: Path, rank: int, name: str, value: Tensor | None) -> None:
    module = share(whole_model(), rank, 2)
    del module[name]
    if value is not None:
        module[name] = value
    torch.save({"module": module}, file_of(folder, rank))


def test_ranks_that_contradict_each_other(tmp_path: Path) -> None:
    name = "transformer.layers.1.attention.dense.bias"
    change_rank(write_ranks(tmp_path, whole_model(), 2), 1, name, torch.zeros(12))
    with pytest.raises(UserError, match=f"{name} should be the same on every rank, but rank 1 differs"):
        open_source(tmp_path).read(name)
    with pytest.raises(UserError, match="should be the same on every rank"):
        load(tmp_path, config=CONFIG)


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "holds other tensors than"), (torch.zeros(7, 12), r"has the shapes \[\(12, 12\)")],
)
def test_ranks_of_other_models(tmp_path: Path, value: Tensor | None, said: str) -> None:
    change_rank(write_ranks(tmp_path, whole_model(), 2), 1, "word_embeddings.weight", value)
    with pytest.raises(UserError, match=said):
        open_source(tmp_path)


def test_fused_rows_that_are_no_three_parts(tmp_path: Path) -> None:
    write_ranks(tmp_path, whole_model(), 2)
    name = "transformer.layers.0.attention.query_key_value.weight"
    for rank in (0, 1):
        change_rank(tmp_path, rank, name, torch.zeros(17, 12))
    with pytest.raises(UserError, match="is not query, key and value in one"):
        open_source(tmp_path)


def test_an_unknown_name(tmp_path: Path) -> None:
    source = open_source(write_ranks(tmp_path, whole_model(), 2))
    name = "transformer.layers.0.attention.query_key_value.weight"
    with pytest.raises(UserError, match="no tensor named"):
        source.read(name)
    with pytest.raises(UserError, match="no tensor named"):
        source.info(name)


def test_python_objects_are_never_run(tmp_path: Path) -> None:
    write_ranks(tmp_path, whole_model(), 2)
    torch.save({"module": share(whole_model(), 1, 2), "args": tiny_config()}, file_of(tmp_path, 1))
    with pytest.raises(UserError, match="mp_rank_01_model_states.pt: it holds Python objects"):
        open_source(tmp_path)
