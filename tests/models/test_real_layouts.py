"""Published checkpoints: true names, shapes and offsets (the values are made up), and one small model in full."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hanformer.decode import Greedy, generate
from hanformer.errors import UserError
from hanformer.models import Transformer, load
from hanformer.text.load import load_tokenizer
from hanformer.weights.bundle import data_path
from hanformer.weights.bundle_records import HEADER_KEY, Entry, read_entry, read_header
from hanformer.weights.table import read_table

BERT, GROUP = "bert/encoder/layer_11", "bert/encoder/transformer/group_0/inner_group_0"
ENDS = {
    "embeddings.token.weight": "bert/embeddings/word_embeddings",
    "embeddings.segment.weight": "bert/embeddings/token_type_embeddings",
    "embeddings.position.weight": "bert/embeddings/position_embeddings",
    "embeddings.norm.weight": "bert/embeddings/LayerNorm/gamma",
    "pooler.dense.weight": "bert/pooler/dense/kernel",
    "lm_head.transform.weight": "cls/predictions/transform/dense/kernel",
    "lm_head.norm.bias": "cls/predictions/transform/LayerNorm/beta",
    "lm_head.bias": "cls/predictions/output_bias",
    "nsp_head.dense.weight": "cls/seq_relationship/output_weights",
    "nsp_head.dense.bias": "cls/seq_relationship/output_bias",
}
BERT_NAMES = {
    **ENDS,
    "stack.blocks.11.attention.query.weight": f"{BERT}/attention/self/query/kernel",
    "stack.blocks.11.attention.output.bias": f"{BERT}/attention/output/dense/bias",
    "stack.blocks.11.attention_norm.weight": f"{BERT}/attention/output/LayerNorm/gamma",
    "stack.blocks.11.feedforward.expand.weight": f"{BERT}/intermediate/dense/kernel",
    "stack.blocks.11.feedforward.contract.weight": f"{BERT}/output/dense/kernel",
    "stack.blocks.11.feedforward_norm.bias": f"{BERT}/output/LayerNorm/beta",
}
ALBERT_NAMES = {
    **ENDS,
    "embeddings.mapping.weight": "bert/encoder/embedding_hidden_mapping_in/kernel",
    "stack.blocks.0.attention.key.weight": f"{GROUP}/attention_1/self/key/kernel",
    "stack.blocks.0.attention.output.weight": f"{GROUP}/attention_1/output/dense/kernel",
    "stack.blocks.0.attention_norm.weight": f"{GROUP}/LayerNorm/gamma",
    "stack.blocks.0.feedforward.expand.weight": f"{GROUP}/ffn_1/intermediate/dense/kernel",
    "stack.blocks.0.feedforward.contract.weight": f"{GROUP}/ffn_1/intermediate/output/dense/kernel",
    "stack.blocks.0.feedforward_norm.bias": f"{GROUP}/LayerNorm_1/beta",
}


@dataclass(frozen=True)
class Published:
    """A release whose index is known: where it lies, its config, and what it must turn out to be."""

    index: str
    config: str
    family: str
    size: int
    layers: int
    hidden: int
    parameters: int
    names: dict[str, str]


def of_bert(index: str, size: int) -> Published:
    config = "checkpoints/tf_index_only/bert_wwm_zh__bert_config.json"
    return Published(index, config, "bert", size, 12, 768, 102_882_442, BERT_NAMES)


RELEASES = (
    of_bert("google_bert_zh__bert_model", 411_529_768),
    of_bert("bert_wwm_zh__bert_model", 411_529_776),
    Published(
        "albert_tiny_zh_google__albert_model",
        "vocab/configs/albert_config_tiny_google.json",
        "albert",
        49_711_136,
        4,
        312,
        4_142_594,
        ALBERT_NAMES,
    ),
    Published(
        "albert_small_zh_google__albert_model",
        "vocab/configs/albert_config_small_google.json",
        "albert",
        57_764_480,
        6,
        384,
        4_813_706,
        ALBERT_NAMES,
    ),
)


@dataclass(frozen=True)
class Release:
    """A published layout with invented values."""

    published: Published
    folder: Path
    entries: dict[str, Entry]

    def stored(self, name: str) -> Tensor:
        """What the data file holds under a name, read without the code under test."""
        entry, path = self.entries[name], data_path(self.folder / "model.ckpt", 0, 1)
        count = entry.size // 4
        flat = np.fromfile(path, dtype=np.float32, count=count, offset=entry.offset)
        return torch.from_numpy(flat).reshape(entry.shape)


@pytest.fixture(params=RELEASES, ids=lambda release: release.index.split("__")[0])
def release(request: pytest.FixtureRequest, data_folder: Path, tmp_path: Path) -> Iterator[Release]:
    """The genuine index and config beside a sparse file: random at the ends of every tensor, zeros between."""
    published: Published = request.param
    shutil.copy(data_folder / published.config, tmp_path / "bert_config.json")
    index = data_folder / "checkpoints" / "tf_index_only" / f"{published.index}.ckpt.index"
    shutil.copy(index, tmp_path / "model.ckpt.index")
    raw = read_table(index)
    assert read_header(raw.pop(HEADER_KEY)).shards == 1
    entries = {key.decode(): read_entry(value) for key, value in raw.items()}
    data = data_path(tmp_path / "model.ckpt", 0, 1)
    invent(data, entries, published.size)
    yield Release(published, tmp_path, entries)
    data.unlink()


def invent(path: Path, entries: dict[str, Entry], size: int) -> None:
    generator = np.random.default_rng(7)
    with open(path, "wb") as file:
        file.truncate(size)
        for entry in entries.values():
            count = min(entry.size // 4, 64)
            for start in (entry.offset, entry.offset + entry.size - 4 * count):
                file.seek(start)
                file.write(generator.normal(size=count).astype(np.float32).tobytes())


def test_published_layouts(release: Release) -> None:
    """The family is recognised, every parameter is found, slots and counters are passed over without a word."""
    published = release.published
    assert max(entry.offset + entry.size for entry in release.entries.values()) == published.size
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(release.folder, heads=("lm", "pool", "nsp"), checksums=False)
    assert isinstance(model, Transformer)
    config = model.config
    assert (config.family, config.layers, config.hidden_size) == (
        published.family,
        published.layers,
        published.hidden,
    )
    assert (config.vocab_size, config.norm_epsilon, config.activation) == (21128, 1e-12, "gelu")
    found = model.state_dict()
    assert sum(value.numel() for value in found.values()) == published.parameters
    for ours, theirs in published.names.items():
        stored = release.stored(theirs)
        assert torch.equal(found[ours], stored.T if theirs.endswith("/kernel") else stored), ours


def test_published_layouts_name_what_was_not_written(release: Release) -> None:
    """The values are not those of the release, and the checks of the index say so."""
    with pytest.raises(UserError, match="CRC-32C differs"):
        load(release.folder)


@pytest.mark.parametrize("release", RELEASES[2:], indirect=True)
def test_an_albert_is_set_free(release: Release) -> None:
    model = load(release.folder, share_layers=False, checksums=False)
    assert len(model.stack.blocks) == release.published.layers
    weights = [block.feedforward.expand.weight for block in model.stack.blocks]
    assert all(torch.equal(weights[0], other) for other in weights[1:])
    assert len({weight.data_ptr() for weight in weights}) == len(weights)


def test_a_checkpoint_of_no_family(data_folder: Path) -> None:
    """tensor2tensor's model is whole and genuine, but no family of ours."""
    folder = data_folder / "checkpoints" / "tf_ckpt_t2t_transformer"
    with pytest.raises(UserError, match="expected one JSON config"):
        load(folder)
    with pytest.raises(UserError, match=r'not to be told .* name it \(family="nezha", --family nezha'):
        load(folder, config={"vocab_size": 8000})


STORIES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 172,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def test_a_trained_llama_tells_its_story(data_folder: Path) -> None:
    """Greedy decoding gives the published text, token for token."""
    folder = data_folder / "checkpoints" / "stories260K"
    model = load(folder / "weights_derived.npz", config=STORIES)
    assert (model.config.family, model.config.lm_head, model.config.groups) == ("llama", "tied", 4)
    tokenizer = load_tokenizer(folder / "tok512.bin")
    expected = json.loads((folder / "expected_greedy_derived.json").read_text(encoding="utf-8"))
    start, ids = expected["token_ids"][:1], expected["token_ids"][1:]
    logits, state = model.prompt([start])
    (found,) = generate(
        model.step, state, logits, rule=Greedy(), end_id=2, maximum_length=len(ids), minimum_length=len(ids)
    )
    assert list(found[0].tokens) == ids
    assert tokenizer.decode(ids).strip() == expected["text"].strip()
    whole = model(torch.tensor([expected["token_ids"]])).lm_logits
    assert whole[0, :-1].argmax(-1).tolist() == ids


@pytest.mark.parametrize("name", ["stories260K.bin", "checkpoint_v1.bin"])
def test_a_raw_export_is_refused(name: str, data_folder: Path) -> None:
    path = data_folder / "checkpoints" / "stories260K" / name
    with pytest.raises(UserError, match=f"{name}: this is a raw export of llama2.c, which has no names"):
        load(path, config=STORIES)


def test_the_data_folder_stays_as_it_is(data_folder: Path) -> None:
    folder = data_folder / "checkpoints" / "stories260K"
    before = {path.name: os.stat(path).st_mtime_ns for path in folder.iterdir()}
    model = load(folder / "weights_derived.npz", config=STORIES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert {path.name: os.stat(path).st_mtime_ns for path in folder.iterdir()} == before
