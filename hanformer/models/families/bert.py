"""BERT, and what WoBERT and SimBERT are made of.

Source: Devlin et al. 2018, arXiv 1810.04805; WoBERT: kexue.fm/archives/7758; SimBERT: kexue.fm/archives/7427.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from hanformer.config import ModelConfig
from hanformer.models.families.family import (
    TRAINING_LEFTOVERS,
    Family,
    Names,
    Raw,
    any_name,
    refuse,
    root_of,
)
from hanformer.models.names import (
    KERAS,
    TORCH,
    TORCH_GAMMA,
    Entry,
    NameMap,
    Transform,
    Words,
    entry,
    flattened,
)
from hanformer.weights.protocols import Source

_WORDS_TABLE = {
    "tensorflow": "embeddings/word_embeddings",
    "transformers": "embeddings.word_embeddings.weight",
}


def words_of(dialect: str, names: Names) -> Words:
    """How this checkpoint spells its parts. 该检查点的命名方式。"""
    if dialect == "tensorflow":
        return KERAS
    return TORCH_GAMMA if any_name(names, r"LayerNorm\.gamma$") else TORCH


#: What transformers calls the models inside its classes. A checkpoint under another of these is another family's.
_PREFIXES = {"bert", "roberta", "albert", "electra", "roformer", "nezha"}


def root(dialect: str, names: Names, *own: str) -> str:
    """The path of the model inside a checkpoint, with its slash; "" where heads were left out.

    模型在检查点中的路径前缀。

    `own` are the family's prefixes, the usual one first, which stands where the checkpoint has that of another.
    """
    separator = "/" if dialect == "tensorflow" else "."
    found = root_of(names, _WORDS_TABLE[dialect], own[0] + separator).removesuffix(separator)
    if found.split(separator)[-1] in _PREFIXES - set(own):
        found = own[0]
    return found.replace(".", "/") + "/" if found else ""


#: What the map from a narrow embedding is called: by ALBERT (and bert4keras), by ELECTRA.
MAPPINGS = ("encoder/embedding_hidden_mapping_in", "embeddings_project")


def embedding_entries(words: Words, path: str, mapping: str = MAPPINGS[0]) -> list[Entry]:
    """Tables, norm and map of BERT's embeddings. 嵌入层的条目。"""
    return [
        *words.embedding("embeddings.token", f"{path}embeddings/word_embeddings"),
        *words.embedding("embeddings.segment", f"{path}embeddings/token_type_embeddings"),
        *words.embedding("embeddings.position", f"{path}embeddings/position_embeddings"),
        *words.norm("embeddings.norm", f"{path}embeddings/LayerNorm"),
        *words.linear("embeddings.mapping", path + mapping),
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


def head_entries(words: Words, path: str, config: ModelConfig) -> list[Entry]:
    """Pooler, next sentence and masked language model. 各输出头的条目。"""
    return [
        *words.linear("pooler.dense", f"{path}pooler/dense"),
        *words.linear("lm_head.transform", "cls/predictions/transform/dense"),
        *words.norm("lm_head.norm", "cls/predictions/transform/LayerNorm"),
        *output_entries(words, "cls/predictions/", config),
        *_next_sentence(words),
    ]


def output_entries(words: Words, path: str, config: ModelConfig) -> list[Entry]:
    """The bias of BERT's vocabulary head, and its table where it has one of its own. 输出层的偏置与独立词表。"""
    if words is KERAS:
        return words.vector("lm_head.bias", f"{path}output_bias")
    if config.lm_head != "transform_untied":
        return words.vector("lm_head.bias", words.path(f"{path}bias"))
    table, used, unused = (words.path(path + end) for end in ("decoder/weight", "decoder/bias", "bias"))
    return [
        entry("lm_head.output.weight", table),
        Entry(("lm_head.bias",), (used, unused), _FIRST),
        entry("lm_head.bias", used),
        entry("lm_head.bias", unused),
    ]


#: transformers adds the bias of an untied table and stores another beside it, which it does not use.
_FIRST = Transform(lambda x: x[:1], lambda x: [x[0], x[0].clone()])


def _next_sentence(words: Words) -> list[Entry]:
    if words is KERAS:
        return [
            entry("nsp_head.dense.weight", "cls/seq_relationship/output_weights"),
            entry("nsp_head.dense.bias", "cls/seq_relationship/output_bias"),
        ]
    return words.linear("nsp_head.dense", "cls/seq_relationship")


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """BERT's names. BERT 的名称表。"""
    return names_under(("bert",), dialect, config, present)


def names_under(
    prefixes: tuple[str, ...], dialect: str, config: ModelConfig, present: Names, mapping: str = MAPPINGS[0]
) -> NameMap:
    """BERT's names after a prefix, which a checkpoint may leave out. 带前缀的 BERT 名称表。"""
    words = words_of(dialect, present)
    path = root(dialect, present, *prefixes)
    layers = (
        layer_entries(words, f"stack.blocks.{layer}", f"{path}encoder/layer_{layer}")
        for layer in range(config.layers)
    )
    parts = [embedding_entries(words, path, mapping), *layers]
    return NameMap(flattened([*parts, head_entries(words, path, config)]), (*TRAINING_LEFTOVERS, *TIED))


#: Copies of the token table and of the output bias, which transformers stores a second time.
TIED = (
    re.compile(r"predictions\.decoder\.(weight|bias)$"),
    re.compile(r"^(lm_head|generator_lm_head)\.(decoder\.)?weight$"),
)
TIED_BIAS = (re.compile(r"^lm_head\.decoder\.bias$"),)
_HEAD_TABLE = re.compile(r"(predictions\.decoder|^(generator_)?lm_head(\.decoder)?)\.weight$")
_TOKEN_TABLE = re.compile(r"(^|\.)embeddings\.word_embeddings\.weight$")


def own_table(raw: Raw, source: Source) -> dict[str, Any]:
    """Whether the vocabulary head has a table of its own: the config asks for one, or the file holds another than the
    token table.

    输出层是否有独立的词表。
    """
    untied = raw.get("tie_word_embeddings") is False or _tables_differ(source)
    return {"lm_head": "transform_untied"} if untied else {}


def _tables_differ(source: Source) -> bool:
    found = [[name for name in source.names() if kind.search(name)] for kind in (_TOKEN_TABLE, _HEAD_TABLE)]
    if [len(names) for names in found] != [1, 1]:
        return False
    return not torch.equal(*(source.read(name) for (name,) in found))


def recognises(names: Names, raw: Raw) -> bool:
    """Layers called layer_0, layer_1, ... and a table of positions."""
    return any_name(names, r"(^|[/.])encoder[/.]layer[_.]0[/.]attention[/.]self[/.]query") and any_name(
        names, r"embeddings[/.]position_embeddings(\.weight)?$"
    )


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """A decoder is a language model; the head may have its own table; relative positions are not BERT's."""
    refuse(raw, {"position_embedding_type": ("absolute", None), "use_task_id": (False, None)})
    return {**own_table(raw, source), **({"application": "lm"} if raw.get("is_decoder") is True else {})}


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    return {"model_type": "bert", "architectures": [_architecture(config, heads)], **common_export(config)}


def _architecture(config: ModelConfig, heads: tuple[str, ...]) -> str:
    if "nsp" in heads:
        return "BertForPreTraining"
    return language_model("Bert", config) if "lm" in heads else "BertModel"


def language_model(prefix: str, config: ModelConfig) -> str:
    """The class of transformers with a vocabulary head. transformers 中带语言模型头的类名。"""
    causal = "LMHeadModel" if prefix == "Bert" else "ForCausalLM"
    return prefix + (causal if config.application == "lm" else "ForMaskedLM")


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
        **({"tie_word_embeddings": False} if config.lm_head == "transform_untied" else {}),
    }


FAMILY = Family("bert", ("wobert", "ernie"), {}, names, recognises, reads, exports)
SIMBERT = Family(
    "simbert",
    (),
    {"pool_activation": "linear"},
    names,
    lambda names, raw: False,
    reads,
    application="unilm",
)
