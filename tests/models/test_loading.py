"""Every way to name a model, and what a loaded model may do: be trained, whatever its file looks like."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models import Transformer, load, save
from hanformer.models.checkpoint import CONFIG_FILE
from hanformer.models.saving import WEIGHTS_FILE
from hanformer.train.optim.adamw import adamw
from hanformer.train.optim.base import OptimizerFactory
from hanformer.train.optim.muon import muon
from hanformer.train.options import TrainOptions
from hanformer.weights.mapping import MappedFile, let_go
from hanformer.weights.source import open_source, write_bundle
from tests.harness import random_model, tiny_config

IDS = torch.tensor([[5, 3, 8, 2, 1], [7, 7, 4, 0, 0]])
HEADS = ("lm", "pool", "nsp")


@pytest.fixture
def model() -> Transformer:
    return random_model(tiny_config(), HEADS, torch.float32)


def same(first: Transformer, second: Transformer) -> None:
    assert first.config == second.config
    theirs = second.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())
    assert torch.equal(first(IDS).lm_logits, second(IDS).lm_logits)


def in_own_format(model: Transformer, folder: Path) -> Path:
    save(model, folder)
    return folder / WEIGHTS_FILE


def in_torch_format(model: Transformer, folder: Path) -> Path:
    in_own_format(model, folder).unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def in_numpy_format(model: Transformer, folder: Path) -> Path:
    in_own_format(model, folder).unlink()
    np.savez(folder / "model.npz", **{name: value.numpy() for name, value in model.state_dict().items()})
    return folder / "model.npz"


def in_transformers_format(model: Transformer, folder: Path) -> Path:
    save(model, folder, format="transformers")
    return folder / WEIGHTS_FILE


def in_tensorflow_format(model: Transformer, folder: Path) -> Path:
    save(model, folder, format="tensorflow")
    return folder / "model.ckpt.data-00000-of-00001"


FORMATS = [in_own_format, in_torch_format, in_numpy_format, in_transformers_format, in_tensorflow_format]
Writer = Callable[[Transformer, Path], Path]
formats = pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__.split("_")[1])


def opened(path: Path) -> Transformer:
    found = load(path, heads=HEADS)
    assert isinstance(found, Transformer)
    return found


@formats
def test_a_file_alone_and_its_folder(model: Transformer, tmp_path: Path, write: Writer) -> None:
    """The config beside a file is found; a folder of the same content gives the same model."""
    file = write(model, tmp_path)
    by_file, by_folder = opened(file), opened(tmp_path)
    same(by_file, by_folder)
    for name, value in model.state_dict().items():
        assert torch.equal(by_file.state_dict()[name], value), name


@pytest.mark.parametrize("write", [in_own_format, in_torch_format], ids=["safetensors", "bin"])
def test_a_file_without_a_config(model: Transformer, tmp_path: Path, write: Writer) -> None:
    file = write(model, tmp_path)
    raw = json.loads((tmp_path / CONFIG_FILE).read_text(encoding="utf-8"))
    (tmp_path / CONFIG_FILE).unlink()
    with pytest.raises(UserError, match=r"expected one JSON config .* name it \(config=, --config\)"):
        load(file)
    same(load(file, config=raw, heads=HEADS), model)
    (tmp_path / "settings.json").write_text(json.dumps(raw), encoding="utf-8")
    same(load(file, config=tmp_path / "settings.json", heads=HEADS), model)


def test_one_of_several_configs_is_named(model: Transformer, tmp_path: Path) -> None:
    file = in_transformers_format(model, tmp_path)
    for name in ("a_config.json", "b_config.json"):
        shutil.copy(tmp_path / CONFIG_FILE, tmp_path / name)
    (tmp_path / "generation_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / CONFIG_FILE).unlink()
    with pytest.raises(UserError, match="found a_config.json, b_config.json; name it"):
        load(file)
    (tmp_path / "a_config.json").unlink()
    assert opened(file).config.hidden_size == 16


def in_shards(model: Transformer, folder: Path, suffix: str, shards: int = 3) -> Path:
    """The tensors of our own format, dealt to several files with an index, as transformers deals them."""
    file = in_own_format(model, folder)
    tensors = list(load_file(file).items())
    file.unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    weight_map = {}
    for shard in range(shards):
        name, part = f"{stem}-{shard + 1:05}-of-{shards:05}.{suffix}", dict(tensors[shard::shards])
        write = save_file if suffix == "safetensors" else torch.save
        write(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_sharded_checkpoint(model: Transformer, tmp_path: Path, suffix: str) -> None:
    index = in_shards(model, tmp_path, suffix)
    same(opened(index), model)
    same(opened(tmp_path), model)
    next(tmp_path.glob(f"*00002-of-00003.{suffix}")).unlink()
    with pytest.raises(UserError, match="00002-of-00003"):
        load(tmp_path)


def test_a_run_folder(model: Transformer, tmp_path: Path) -> None:
    """Of a run the best model is opened, whatever else lies beside it."""
    in_own_format(model, tmp_path / "best")
    in_own_format(random_model(tiny_config(layers=1), seed=5), tmp_path / "last")
    (tmp_path / "run.toml").write_text("version = 1", encoding="utf-8")
    same(opened(tmp_path), model)
    assert load(tmp_path / "last").config.layers == 1


HUB = "huggingface_hub.snapshot_download"


def test_a_hub_name(model: Transformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the hub gives is opened; patterns leave out what is not read."""
    in_transformers_format(model, tmp_path / "snapshot")
    asked: list[Any] = []

    def give(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(HUB, give)
    monkeypatch.chdir(tmp_path)
    found = load("someone/some-model", heads=HEADS)
    assert torch.equal(found(IDS).lm_logits, model(IDS).lm_logits)
    ((name, patterns),) = asked
    assert name == "someone/some-model" and {"*.json", "*.safetensors", "*.bin"} <= set(patterns)


def test_a_folder_goes_before_the_hub(
    model: Transformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HUB, lambda *_, **__: pytest.fail("the hub was asked"))
    monkeypatch.chdir(tmp_path)
    in_own_format(model, tmp_path / "someone" / "some-model")
    same(load("someone/some-model", heads=HEADS), model)
    with pytest.raises(UserError, match="no such file, folder or prefix"):
        load("someone/other-model")
    with pytest.raises(UserError, match="no such file, folder or prefix"):
        load("/nowhere/some-model")


def test_a_hub_name_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own refusal, in one sentence that says what to do."""
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"someone/some-model: no such file .* give its path") as caught:
        load("someone/some-model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("bad name"), OSError()])
def test_a_hub_that_fails(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(HUB, fail)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the hub did not give a model of that name") as caught:
        load("someone/some-model")
    assert (str(error) or type(error).__name__) in str(caught.value)


def optimizer_of(model: Transformer, rule: OptimizerFactory) -> torch.optim.Optimizer:
    named = dict(model.named_parameters())
    inner = [value for name, value in named.items() if name.startswith("stack") and value.dim() == 2]
    chosen = {id(value) for value in inner}
    rest = [value for value in named.values() if id(value) not in chosen]
    groups = [
        {"params": inner, "weight_decay": 0.01, "kind": "matrix"},
        {"params": rest, "weight_decay": 0.0, "kind": "other"},
    ]
    return rule(groups, TrainOptions(updates=4))


def steps(model: Transformer, optimizer: torch.optim.Optimizer, count: int = 3) -> None:
    model.train()
    for _ in range(count):
        optimizer.zero_grad()
        output = model(IDS)
        assert output.nsp_logits is not None and output.mlm_logits is not None
        (output.mlm_logits.logsumexp(-1).sum() + output.nsp_logits.square().sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@formats
@pytest.mark.parametrize("rule", [adamw, muon], ids=["adamw", "muon"])
def test_training_leaves_the_file_and_equals_training_a_copy(
    model: Transformer, tmp_path: Path, write: Writer, rule: OptimizerFactory
) -> None:
    file = write(model, tmp_path)
    before = file.read_bytes()
    loaded, copy = opened(file).train(), deepcopy(model)
    steps(loaded, optimizer_of(loaded, rule))
    steps(copy, optimizer_of(copy, rule))
    assert file.read_bytes() == before
    for (name, ours), theirs in zip(loaded.named_parameters(), copy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-6, msg=name)
        if name.startswith("stack"):
            assert not torch.equal(ours, model.state_dict()[name]), f"{name} did not learn"


@formats
def test_gradients_from_anywhere_meet_their_weights(
    model: Transformer, tmp_path: Path, write: Writer
) -> None:
    """Fused updates walk through memory: a transposed weight would take its rows' gradients for its columns'."""
    loaded, copy = opened(write(model, tmp_path)).train(), deepcopy(model)
    assert all(parameter.is_contiguous() for parameter in loaded.parameters())
    for one in (loaded, copy):
        optimizer = optimizer_of(one, adamw)
        for place, parameter in enumerate(one.parameters()):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(place))
        optimizer.step()
    for ours, theirs in zip(loaded.parameters(), copy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-6)


@formats
def test_a_resumed_optimizer_goes_on_as_if_it_had_not_stopped(
    model: Transformer, tmp_path: Path, write: Writer
) -> None:
    """Its state comes back from a file in plain order, and must lie as the weights do."""
    write(model, tmp_path)
    whole, halves = opened(tmp_path), opened(tmp_path)
    steps(whole, optimizer_of(whole, adamw), 6)
    first, second = optimizer_of(halves, adamw), optimizer_of(halves, adamw)
    steps(halves, first, 3)
    kept = first.state_dict()
    for state in kept["state"].values():
        state.update({name: value.contiguous() for name, value in state.items()})
    second.load_state_dict(kept)
    steps(halves, second, 3)
    assert all(map(torch.equal, whole.parameters(), halves.parameters()))


@formats
def test_parameters_share_no_memory(model: Transformer, tmp_path: Path, write: Writer) -> None:
    """What one parameter learns must not show in another."""
    loaded = opened(write(model, tmp_path))
    spans = sorted((p.data_ptr(), p.data_ptr() + p.nbytes) for p in loaded.parameters())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_what_is_let_go_is_read_again(tmp_path: Path) -> None:
    """Whole pages of a mapped tensor are given back; its values, and its neighbours' changes, stay."""
    values = {"a": torch.randn(100), "b": torch.randn(300, 100), "c": torch.randn(100)}
    source = open_source(write_together(tmp_path / "model.ckpt", values))
    read = {name: source.read(name) for name in values}
    read["a"].fill_(1.0)
    read["c"].fill_(2.0)
    let_go(read["b"])
    assert torch.equal(read["b"], values["b"])
    assert bool((read["a"] == 1.0).all()) and bool((read["c"] == 2.0).all())
    strangers = torch.randn(5000), torch.empty(0), torch.randn(300, 100).T
    copies = [value.clone() for value in strangers]
    for value in strangers:
        let_go(value)
    assert all(map(torch.equal, strangers, copies))


def write_together(prefix: Path, tensors: dict[str, Tensor]) -> Path:
    write_bundle(prefix, tensors)
    return prefix


def test_an_empty_file_lets_nothing_go(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    file = MappedFile(tmp_path / "empty")
    tensor = torch.randn(5000)
    copy = tensor.clone()
    file.let_go(tensor)
    assert torch.equal(tensor, copy)


def in_metas_words(config: ModelConfig, inner: bool) -> dict[str, str]:
    """Our names and Meta's, with the folders of the layers or without."""
    words = {
        "attention.query": "attention.wq",
        "attention.key": "attention.wk",
        "attention.value": "attention.wv",
        "attention.output": "attention.wo",
        "feedforward.expand": "feed_forward.w1",
        "feedforward.contract": "feed_forward.w2",
        "feedforward.gated": "feed_forward.w3",
        "attention_norm": "attention_norm",
        "feedforward_norm": "ffn_norm",
    }
    named = {"embeddings.token.weight": "tok_embeddings.weight", "stack.final_norm.weight": "norm.weight"}
    for layer in range(config.layers):
        for ours, theirs in words.items():
            word = theirs if inner else theirs.split(".")[-1]
            named[f"stack.blocks.{layer}.{ours}.weight"] = f"layers.{layer}.{word}.weight"
    return named


RAW = {
    "vocab_size": 23,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "tie_word_embeddings": True,
}


LLAMA: dict[str, Any] = {
    "attention_heads": 4,
    "key_value_heads": 2,
    "norm": "rms",
    "norm_place": "pre",
    "norm_epsilon": 1e-5,
    "biases": "none",
    "feedforward": "gated",
    "activation": "silu",
    "position": "rotary",
    "lm_head": "tied",
    "segment_vocab_size": 0,
    "pad_id": None,
    "application": "lm",
    "family": "llama",
}


@pytest.mark.parametrize("kind", ["meta", "flat", "stacked"])
def test_llamas_of_every_spelling(tmp_path: Path, kind: str) -> None:
    """Meta's names, the same without inner folders, and llama2.c's arrays stacked over layers."""
    config = tiny_config(**LLAMA)
    peer = random_model(config, dtype=torch.float32)
    named = in_metas_words(config, inner=kind == "meta")
    state = peer.state_dict()
    assert set(named) == set(state)
    published = {theirs: state[ours] for ours, theirs in named.items()} | {"freqs_cos": torch.zeros(3)}
    if kind == "meta":
        published["output.weight"] = published["tok_embeddings.weight"]
    torch.save(stacked(published) if kind == "stacked" else {"model": published}, tmp_path / "model.pt")
    model = load(tmp_path / "model.pt", config=RAW)
    assert model.config.changed({"extra": {}}) == config
    assert torch.equal(model(IDS[:1]).lm_logits, peer(IDS[:1]).lm_logits)


def stacked(published: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {"tok_embeddings": published["tok_embeddings.weight"], "norm": published["norm.weight"]}
    words = {"attention_norm": "att_norm"}
    for name in published:
        if name.startswith("layers.0."):
            word = name.split(".")[-2]
            layers = [published[name.replace("layers.0.", f"layers.{layer}.")] for layer in (0, 1)]
            found[words.get(word, word)] = torch.stack(layers)
    return found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_tokens": "abc"}, "keep_tokens: expected a list"),
        ({"keep_tokens": 5}, "keep_tokens: expected a list"),
        ({"keep_tokens": [1.5]}, "keep_tokens: ids are whole numbers"),
        ({"keep_tokens": [True]}, "keep_tokens: ids are whole numbers"),
        ({"compound_tokens": [5]}, "expected a list of ids"),
        ({"compound_tokens": [[0, "a"]]}, "ids are whole numbers"),
        ({"compound_tokens": [([0, 1], [float("nan"), 1])]}, "weights are finite"),
        ({"compound_tokens": [([0, 1], [1, -1])]}, "whose sum is not 0"),
        ({"heads": [1]}, "expected some of lm"),
        ({"changes": {"layers": 10**9}}, "layers must be at most 2000"),
        ({"changes": {"vocab_size": 10**15}}, "vocab_size must be at most"),
        ({"changes": {"vocab_size": 10**9}}, "weights and config disagree"),
        (
            {"changes": {"vocab_size": 10**9, "embedding_size": 10**6}, "strict": False},
            "no memory for initial",
        ),
        ({"changes": {"hidden_size": 2**31 - 2, "attention_heads": 2}}, "its sizes make no model"),
    ],
    ids=str,
)
def test_arguments_that_mean_nothing(tmp_path: Path, options: dict[str, object], message: str) -> None:
    save(random_model(tiny_config(), dtype=torch.float32), tmp_path)
    with pytest.raises(UserError, match=message):
        load(tmp_path, **options)
