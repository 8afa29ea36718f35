"""ALBERT: one layer for all, a factorised embedding; and the same checkpoint with its layers set free.

Source: Lan et al. 2019, arXiv 1909.11942; unshared: kexue.fm/archives/7187.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanformer.config import ModelConfig
from hanformer.models.families.bert import (
    TIED,
    common_export,
    embedding_entries,
    head_entries,
    output_entries,
    own_table,
    root,
    words_of,
)
from hanformer.models.families.family import TRAINING_LEFTOVERS, Family, Names, Raw, any_name, refuse
from hanformer.models.names import KERAS, Entry, NameMap, Words, copied, flattened
from hanformer.weights.protocols import Source

#: What stands where in the one layer, in TensorFlow and in transformers.
_GOOGLE = {
    "attention.query": "attention_1/self/query",
    "attention.key": "attention_1/self/key",
    "attention.value": "attention_1/self/value",
    "attention.output": "attention_1/output/dense",
    "attention_norm": "LayerNorm",
    "feedforward.expand": "ffn_1/intermediate/dense",
    "feedforward.contract": "ffn_1/intermediate/output/dense",
    "feedforward_norm": "LayerNorm_1",
}
_TRANSFORMERS = {
    "attention.query": "attention/query",
    "attention.key": "attention/key",
    "attention.value": "attention/value",
    "attention.output": "attention/dense",
    "attention_norm": "attention/LayerNorm",
    "feedforward.expand": "ffn",
    "feedforward.contract": "ffn_output",
    "feedforward_norm": "full_layer_layer_norm",
}


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """ALBERT's names; an unshared model takes a copy of the one layer for each of its own. ALBERT 的名称表。"""
    words = words_of(dialect, present)
    path = root(dialect, present, "bert" if words is KERAS else "albert")
    where = "encoder/transformer/group_0/inner_group_0/"
    if words is not KERAS:
        where = "encoder/albert_layer_groups/0/albert_layers/0/"
    count = 1 if config.share_layers else config.layers
    layer = [_spread(found, count) for found in _layer(words, path + where)]
    parts = [embedding_entries(words, path), layer, _heads(words, path, config)]
    return NameMap(flattened(parts), (*TRAINING_LEFTOVERS, *TIED))


def _layer(words: Words, path: str) -> list[Entry]:
    table = _GOOGLE if words is KERAS else _TRANSFORMERS
    found: list[Entry] = []
    for ours, theirs in table.items():
        make = words.norm if ours.endswith("_norm") else words.linear
        found += make(ours, path + theirs)
    return found


def _spread(found: Entry, count: int) -> Entry:
    ours = tuple(f"stack.blocks.{layer}.{found.ours[0]}" for layer in range(count))
    return Entry(ours, found.theirs, found.transform.then(copied(count)))


def _heads(words: Words, path: str, config: ModelConfig) -> list[Entry]:
    if words is KERAS:
        return head_entries(words, path, config)
    return [
        *words.linear("pooler.dense", f"{path}pooler"),
        *words.linear("lm_head.transform", "predictions/dense"),
        *words.norm("lm_head.norm", "predictions/LayerNorm"),
        *output_entries(words, "predictions/", config),
        *words.linear("nsp_head.dense", "sop_classifier/classifier"),
    ]


def recognises(names: Names, raw: Raw) -> bool:
    """One group of layers."""
    return any_name(names, r"group_0/inner_group_0|albert_layer_groups\.0")


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """One group of one layer, as all published models have; and the table of the head."""
    refuse(raw, {"num_hidden_groups": (1,), "inner_group_num": (1,)})
    return own_table(raw, source)


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    architecture = "AlbertForMaskedLM" if "lm" in heads else "AlbertModel"
    if "nsp" in heads:
        architecture = "AlbertForPreTraining"
    return {
        "model_type": "albert",
        "architectures": [architecture],
        "embedding_size": config.embedding_width,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        **common_export(config),
    }


FAMILY = Family("albert", (), {"share_layers": True}, names, recognises, reads, exports)
UNSHARED = Family("albert_unshared", (), {"share_layers": False}, names, lambda names, raw: False, reads)
