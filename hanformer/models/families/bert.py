"""BERT and RoBERTa, and what WoBERT and SimBERT are made of.

Source: Devlin et al. 2018, arXiv 1810.04805; WoBERT: kexue.fm/archives/7758; SimBERT: kexue.fm/archives/7427.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hanformer.config import ModelConfig
from hanformer.models.families.family import (
    TRAINING_LEFTOVERS,
    Family,
    Names,
    Raw,
    any_name,
    root_of,
)
from hanformer.models.names import (
    KERAS,
    TORCH,
    TORCH_GAMMA,
    Entry,
    NameMap,
    Words,
    entry,
    first_rows_dropped,
    flattened,
)

_WORDS_TABLE = {
    "tensorflow": "/embeddings/word_embeddings",
    "transformers": "embeddings.word_embeddings.weight",
}


def words_of(dialect: str, names: Names) -> Words:
    """How this checkpoint spells its parts. 该检查点的命名方式。"""
    if dialect == "tensorflow":
        return KERAS
    return TORCH_GAMMA if any_name(names, r"LayerNorm\.gamma$") else TORCH


def root(dialect: str, names: Names, default: str) -> str:
    """The path of the model inside a checkpoint, with its slash; "" where heads were left out.

    模型在检查点中的路径前缀。
    """
    if dialect == "tensorflow":
        return root_of(names, _WORDS_TABLE[dialect], default) + "/"
    return root_of(names, _WORDS_TABLE[dialect], default + ".").replace(".", "/")


def embedding_entries(words: Words, path: str) -> list[Entry]:
    """Tables and norm of BERT's embeddings. 嵌入层的条目。"""
    return [
        *words.embedding("embeddings.token", f"{path}embeddings/word_embeddings"),
        *words.embedding("embeddings.segment", f"{path}embeddings/token_type_embeddings"),
        *words.embedding("embeddings.position", f"{path}embeddings/position_embeddings"),
        *words.norm("embeddings.norm", f"{path}embeddings/LayerNorm"),
        *words.linear("embeddings.mapping", f"{path}embeddings_project"),
        *words.linear("embeddings.mapping", f"{path}encoder/embedding_hidden_mapping_in"),
    ]


def layer_entries(words: Words, ours: str, theirs: str) -> list[Entry]:
    """One layer as BERT names it. 一层的条目。"""
    return [
        *words.linear(f"{ours}.attention.query", f"{theirs}/attention/self/query"),
        *words.linear(f"{ours}.attention.key", f"{theirs}/attention/self/key"),
        *words.linear(f"{ours}.attention.value", f"{theirs}/attention/self/value"),
        *words.linear(f"{ours}.attention.output", f"{theirs}/attention/output/dense"),
        *words.norm(f"{ours}.attention_norm", f"{theirs}/attention/output/LayerNorm"),
        *words.linear(f"{ours}.feedforward.expand", f"{theirs}/intermediate/dense"),
        *words.linear(f"{ours}.feedforward.contract", f"{theirs}/output/dense"),
        *words.norm(f"{ours}.feedforward_norm", f"{theirs}/output/LayerNorm"),
    ]


def head_entries(words: Words, path: str) -> list[Entry]:
    """Pooler, next sentence and masked language model. 各输出头的条目。"""
    return [
        *words.linear("pooler.dense", f"{path}pooler/dense"),
        *words.linear("lm_head.transform", "cls/predictions/transform/dense"),
        *words.norm("lm_head.norm", "cls/predictions/transform/LayerNorm"),
        *words.vector("lm_head.bias", "cls/predictions/" + ("output_bias" if words is KERAS else "bias")),
        *_next_sentence(words),
    ]


def _next_sentence(words: Words) -> list[Entry]:
    if words is KERAS:
        return [
            entry("nsp_head.dense.weight", "cls/seq_relationship/output_weights"),
            entry("nsp_head.dense.bias", "cls/seq_relationship/output_bias"),
        ]
    return words.linear("nsp_head.dense", "cls/seq_relationship")


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """BERT's names. BERT 的名称表。"""
    words = words_of(dialect, present)
    path = root(dialect, present, "bert")
    layers = (
        layer_entries(words, f"stack.blocks.{layer}", f"{path}encoder/layer_{layer}")
        for layer in range(config.layers)
    )
    parts = [_roberta(path) if path == "roberta/" else [], embedding_entries(words, path), *layers]
    return NameMap(flattened([*parts, head_entries(words, path)]), (*TRAINING_LEFTOVERS, *TIED))


#: Copies of the token table and of the output bias, which transformers stores a second time.
TIED = (
    re.compile(r"predictions\.decoder\.(weight|bias)$"),
    re.compile(r"^(lm_head|generator_lm_head)\.(decoder\.)?weight$"),
)


def _roberta(path: str) -> list[Entry]:
    """RoBERTa as transformers has it: positions count from 2, and a head with names of its own."""
    return [
        entry(
            "embeddings.position.weight",
            f"{path}embeddings/position_embeddings/weight".replace("/", "."),
            first_rows_dropped(2),
        ),
        *TORCH.linear("lm_head.transform", "lm_head/dense"),
        *TORCH.norm("lm_head.norm", "lm_head/layer_norm"),
        *TORCH.vector("lm_head.bias", "lm_head/bias"),
    ]


def recognises(names: Names, raw: Raw) -> bool:
    """Layers called layer_0, layer_1, ... and a table of positions."""
    return any_name(names, r"(^|[/.])encoder[/.]layer[_.]0[/.]attention[/.]self[/.]query") and any_name(
        names, r"embeddings[/.]position_embeddings(\.weight)?$"
    )


def reads(raw: Raw, dialect: str) -> Mapping[str, Any]:
    """RoBERTa's two unused positions are not ours."""
    if raw.get("model_type") == "roberta" and dialect == "transformers":
        return {"max_positions": raw.get("max_position_embeddings", 514) - 2}
    return {}


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    return {"model_type": "bert", "architectures": [_architecture(heads)], **common_export(config)}


def _architecture(heads: tuple[str, ...]) -> str:
    if "lm" in heads and "nsp" in heads:
        return "BertForPreTraining"
    return "BertForMaskedLM" if "lm" in heads else "BertModel"


#: Our activation -> transformers' word.
ACTIVATION_WORDS = {"gelu_tanh": "gelu_new", "gelu_sigmoid": "quick_gelu"}


def common_export(config: ModelConfig) -> dict[str, Any]:
    """What the configs of BERT's kin share in transformers. BERT 系配置的公共部分。"""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": ACTIVATION_WORDS.get(config.activation, config.activation),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.segment_vocab_size,
        "layer_norm_eps": config.norm_epsilon,
        "initializer_range": config.initial_deviation,
        "pad_token_id": config.pad_id,
        "is_decoder": config.application == "lm",
    }


FAMILY = Family("bert", ("roberta", "wobert"), {}, names, recognises, reads, exports)
SIMBERT = Family(
    "simbert",
    (),
    {"pool_activation": "linear"},
    names,
    lambda names, raw: False,
    reads,
    application="unilm",
)
