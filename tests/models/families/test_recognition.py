"""Which family a checkpoint is, from its config and its names alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.families import FAMILIES, family_of, recognise
from tests.models.families.tiny import EXPORTED, tiny_family
from tests.models.golden import CASES, Case

#: Families whose published TensorFlow form tells of itself, and what it is taken for; the rest must be named.
TENSORFLOW = {
    "albert": "albert",
    "albert_unshared": "albert",
    "bert": "bert",
    "simbert": "bert",
    "roberta": "bert",
    "electra": "electra",
    "electra_generator": "electra_generator",
    "gpt": "gpt",
    "gpt2": "gpt2",
    "cpm": "gpt2",
    "gpt2_ml": "gpt2_ml",
    "mt5.1.1": "mt5.1.1",
    "roformer_v2": "roformer_v2",
    "t5.1.0": "t5.1.0",
    "t5.1.1": "t5.1.1",
}
QUERY, PLACES = "encoder.layer.0.attention.self.query.weight", "embeddings.position_embeddings.weight"
BIAS = "encoder.layer.0.attention.self.query.bias"
TABLE = [
    ({"model_type": "bert"}, {}, "bert"),
    ({}, {f"bert.{QUERY}", f"bert.{BIAS}", f"bert.{PLACES}"}, "bert"),
    ({}, {QUERY, BIAS, PLACES}, "bert"),
    ({"model_type": "roberta"}, {QUERY, PLACES}, "roberta"),
    ({"model_type": "xlm-roberta"}, {QUERY, PLACES}, "roberta"),
    ({"model_type": "roberta"}, {f"bert.{QUERY}", f"bert.{BIAS}", f"bert.{PLACES}"}, "bert"),
    ({}, {f"roberta.{QUERY}", f"roberta.{PLACES}"}, "roberta"),
    ({"model_type": "albert"}, {}, "albert"),
    ({}, {"encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"}, "albert"),
    ({"model_type": "electra"}, {QUERY, PLACES}, "electra"),
    ({"model_type": "electra"}, {"generator_predictions.dense.weight"}, "electra_generator"),
    ({}, {"electra/embeddings/word_embeddings", "generator_predictions/dense/kernel"}, "electra_generator"),
    (
        {},
        {"electra/x", "generator_predictions/dense/kernel", "discriminator_predictions/dense/kernel"},
        "electra",
    ),
    ({"model_type": "nezha"}, {QUERY}, "nezha"),
    ({"max_relative_position": 64}, {QUERY}, "nezha"),
    ({"use_relative_position": True}, {f"bert.{QUERY}", f"bert.{BIAS}", f"bert.{PLACES}"}, "nezha"),
    ({"model_type": "roformer"}, {QUERY}, "roformer"),
    ({}, {f"roformer.{QUERY}"}, "roformer"),
    ({}, {"bert/encoder/layer_0/attention/self/query/kernel"}, "roformer_v2"),
    ({"model_type": "openai-gpt"}, {}, "gpt"),
    ({}, {"tokens_embed.weight"}, "gpt"),
    ({"model_type": "gpt2"}, {}, "gpt2"),
    ({}, {"transformer.wte.weight"}, "gpt2"),
    ({}, {"transformer.layers.0.input_layernorm.weight"}, "cpm"),
    ({}, {"newslm/embeddings/word_embed"}, "gpt2_ml"),
    ({"model_type": "t5"}, {"decoder.block.0.layer.1.EncDecAttention.q.weight"}, "t5.1.0"),
    (
        {"model_type": "t5"},
        {
            "decoder.block.0.layer.1.EncDecAttention.q.weight",
            "decoder.block.0.layer.2.DenseReluDense.wi_1.weight",
        },
        "t5.1.1",
    ),
    ({"model_type": "mt5"}, {"decoder.block.0.layer.1.EncDecAttention.q.weight"}, "mt5.1.1"),
    ({"model_type": "llama"}, {}, "llama"),
    ({"model_type": "qwen2"}, {}, "llama"),
    ({}, {"model.layers.0.mlp.gate_proj.weight"}, "llama"),
    ({}, {"bert/encoder/layer_0/attention/self/query/kernel", "bert/embeddings/LayerNorm/gamma"}, None),
    ({"model_type": "unheard"}, {"layer.weight"}, None),
    ({}, {}, None),
]


@pytest.mark.parametrize(("raw", "names", "family"), TABLE)
def test_table(raw: dict[str, Any], names: set[str], family: str | None) -> None:
    found = recognise(frozenset(names), raw)
    assert (found and found.name) == family


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if "tensorflow" in family.dialects], ids=lambda f: f.name
)
def test_tensorflow(family: Any, tmp_path: Path) -> None:
    """What we write says its family, where names do not; RoBERTa's are BERT's, and so is all that is computed."""
    save(tiny_family(family.name), tmp_path, format="tensorflow")
    expected = "bert" if family.name == "roberta" else family.name
    assert load(tmp_path).config.family == expected
    config = tmp_path / "bert_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    published = TENSORFLOW.get(family.name)
    values.pop("model_type", None)
    config.write_text(json.dumps(values), encoding="utf-8")
    if published is not None:
        assert load(tmp_path).config.family == published
        return
    with pytest.raises(
        UserError, match=r'family of this model is not to be told .*name it \(family="nezha", --family nezha'
    ):
        load(tmp_path)
    assert load(tmp_path, family=family.name).config.family == family.name


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.exports is not None], ids=lambda f: f.name
)
def test_transformers(family: Any, tmp_path: Path) -> None:
    save(tiny_family(family.name, **EXPORTED.get(family.name, {})), tmp_path, format="transformers")
    expected = {"simbert": "bert", "cpm": "gpt2"}.get(family.name, family.name)
    assert load(tmp_path).config.family == expected


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    """Named or not, it is the same family, or it asks for the name."""
    case = Case(name)
    expected = TENSORFLOW.get(family_of(case.family).name)
    if expected is None:
        with pytest.raises(UserError, match="name it"):
            load(case.folder)
    else:
        assert load(case.folder).config.family == expected


@pytest.mark.parametrize(("near", "meant"), [("brt", "bert"), ("t5.1", "t5.1.1"), ("robert", "roberta")])
def test_unknown_words(near: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"family: unknown name '{near}'; there are .*did you mean"):
        family_of(near)


def test_every_word_is_one_family() -> None:
    words = [word for family in FAMILIES for word in (family.name, *family.words)]
    assert len(words) == len(set(words))
    for word in words:
        assert word in (family_of(word).name, *family_of(word).words)


def write_foreign(folder: Path, raw: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors")


def test_a_model_of_no_family(tmp_path: Path) -> None:
    write_foreign(tmp_path, {"model_type": "mamba", "vocab_size": 3}, {"backbone.mixer": torch.zeros(2)})
    with pytest.raises(UserError, match=r"config and names \(backbone\.mixer, \.\.\.\): name it") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
