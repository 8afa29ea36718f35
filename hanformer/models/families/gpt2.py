"""GPT-2, and CPM-LM after it: pre-norm, causal, no segments; and GPT2-ML, between GPT and GPT-2.

Source: Radford et al. 2019; CPM: Zhang et al. 2020, arXiv 2012.00413, kexue.fm/archives/7912; GPT2-ML: the
Grover code (arXiv 1905.12616) trained on Chinese.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hanformer.config import ModelConfig
from hanformer.dialects import whole_number
from hanformer.models.families.family import TRAINING_LEFTOVERS, Family, Names, Raw, any_name, refuse, root_of
from hanformer.models.families.gpt import TRANSFORMERS_BUFFERS, gpt_export, transformers_layer
from hanformer.models.names import KERAS, TORCH, Entry, NameMap, entry, flattened
from hanformer.weights.protocols import Source

DEFAULTS = {
    "norm_place": "pre",
    "norm_epsilon": 1e-5,
    "lm_head": "tied",
    "pad_id": None,
}

FIXED = {"segment_vocab_size": 0}


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """GPT-2's names. GPT-2 的名称表。"""
    if dialect == "megatron":
        return megatron_names(config, present)
    if dialect == "tensorflow":
        return _tensorflow(config)
    path = root_of(present, "wte.weight", "transformer.")
    ends = [
        *TORCH.embedding("embeddings.token", f"{path}wte"),
        *TORCH.embedding("embeddings.position", f"{path}wpe"),
        *TORCH.norm("stack.final_norm", f"{path}ln_f"),
        entry("lm_head.output.weight", "lm_head.weight"),
    ]
    layers = (
        transformers_layer(f"stack.blocks.{layer}", f"{path}h.{layer}", "attention_norm", "feedforward_norm")
        for layer in range(config.layers)
    )
    return NameMap(flattened([ends, *layers]), (*TRAINING_LEFTOVERS, *TRANSFORMERS_BUFFERS))


def _tensorflow(config: ModelConfig) -> NameMap:
    ends = [
        *KERAS.embedding("embeddings.token", "gpt/embeddings/word_embeddings"),
        *KERAS.embedding("embeddings.position", "gpt/embeddings/position_embeddings"),
        *KERAS.norm("stack.final_norm", "gpt/output/LayerNorm"),
    ]
    layers = (
        _tensorflow_layer(f"stack.blocks.{layer}", f"gpt/transformer/layer_{layer}")
        for layer in range(config.layers)
    )
    return NameMap(flattened([ends, *layers]), TRAINING_LEFTOVERS)


def _tensorflow_layer(ours: str, theirs: str) -> list[Entry]:
    return [
        *KERAS.linear(f"{ours}.attention.query", f"{theirs}/attention/self/query"),
        *KERAS.linear(f"{ours}.attention.key", f"{theirs}/attention/self/key"),
        *KERAS.linear(f"{ours}.attention.value", f"{theirs}/attention/self/value"),
        *KERAS.linear(f"{ours}.attention.output", f"{theirs}/attention/output/dense"),
        *KERAS.norm(f"{ours}.attention_norm", f"{theirs}/attention/input/LayerNorm"),
        *KERAS.linear(f"{ours}.feedforward.expand", f"{theirs}/intermediate/dense"),
        *KERAS.linear(f"{ours}.feedforward.contract", f"{theirs}/output/dense"),
        *KERAS.norm(f"{ours}.feedforward_norm", f"{theirs}/input/LayerNorm"),
    ]


def megatron_names(config: ModelConfig, present: Names) -> NameMap:
    """CPM's own release: Megatron names, merged from its shards by `weights.megatron`. CPM 原始名称表。"""
    fused = ("query", "key", "value")
    ends = [
        *TORCH.embedding("embeddings.token", "word_embeddings"),
        *TORCH.embedding("embeddings.position", "position_embeddings"),
        *TORCH.norm("stack.final_norm", "transformer.final_layernorm"),
    ]
    parts: list[list[Entry]] = [ends]
    for layer in range(config.layers):
        ours, theirs = f"stack.blocks.{layer}", f"transformer.layers.{layer}"
        parts.append(
            [
                *(
                    found
                    for part in fused
                    for found in TORCH.linear(f"{ours}.attention.{part}", f"{theirs}.attention.{part}")
                ),
                *TORCH.linear(f"{ours}.attention.output", f"{theirs}.attention.dense"),
                *TORCH.norm(f"{ours}.attention_norm", f"{theirs}.input_layernorm"),
                *TORCH.linear(f"{ours}.feedforward.expand", f"{theirs}.mlp.dense_h_to_4h"),
                *TORCH.linear(f"{ours}.feedforward.contract", f"{theirs}.mlp.dense_4h_to_h"),
                *TORCH.norm(f"{ours}.feedforward_norm", f"{theirs}.post_attention_layernorm"),
            ]
        )
    return NameMap(flattened(parts), TRAINING_LEFTOVERS)


def recognises(names: Names, raw: Raw) -> bool:
    """Its own tables, and a norm before attention."""
    google = any_name(names, r"^gpt/embeddings/") and any_name(names, r"attention/input/LayerNorm")
    return google or any_name(names, r"(^|\.)wte\.weight$")


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """The width of the feed-forward layer, which transformers may leave out; the activation; ties."""
    if dialect == "tensorflow":
        return {}
    refuse(raw, {"scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,)})
    width = whole_number(raw, "n_embd", "hidden_size", default=768)
    inner = raw.get("n_inner") or raw.get("intermediate_size") or 4 * width
    word = raw.get("activation_function", raw.get("hidden_act", "gelu_new"))
    found = {"intermediate_size": inner, "activation": word}
    return found if raw.get("tie_word_embeddings", True) else {**found, "lm_head": "untied"}


def reads_cpm(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """CPM was trained with the tanh form; configs made for bert4keras say gelu, and it reads that as the erf form."""
    found = reads(raw, dialect, source)
    tanh = raw.get("hidden_act") == "gelu" and raw["convention"] == "standard"
    return {**found, "activation": "gelu_tanh"} if tanh else found


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    kind = "GPT2LMHeadModel" if "lm" in heads else "GPT2Model"
    ties = {"tie_word_embeddings": config.lm_head == "tied"}
    return {
        "model_type": "gpt2",
        "architectures": [kind],
        **ties,
        **gpt_export(config, "activation_function"),
    }


def grover_names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """GPT2-ML's names. GPT2-ML 的名称表。"""
    ends = [
        *KERAS.embedding("embeddings.token", "newslm/embeddings/word_embed"),
        *KERAS.embedding("embeddings.position", "newslm/embeddings/pos_embed"),
        *KERAS.norm("embeddings.norm", "newslm/embeddings/LayerNorm_embed_norm"),
    ]
    layers = (
        _grover_layer(f"stack.blocks.{layer}", f"newslm/layer{layer:02d}") for layer in range(config.layers)
    )
    return NameMap(flattened([ends, *layers]), TRAINING_LEFTOVERS)


def _grover_layer(ours: str, theirs: str) -> list[Entry]:
    return [
        *KERAS.linear(f"{ours}.attention.query", f"{theirs}/query_layer"),
        *KERAS.linear(f"{ours}.attention.key", f"{theirs}/key_layer"),
        *KERAS.linear(f"{ours}.attention.value", f"{theirs}/value_layer"),
        *KERAS.linear(f"{ours}.attention.output", f"{theirs}/context_projection_layer"),
        *KERAS.norm(f"{ours}.attention_norm", f"{theirs}/LayerNorm_mlp_ln0"),
        *KERAS.linear(f"{ours}.feedforward.expand", f"{theirs}/intermediate"),
        *KERAS.linear(f"{ours}.feedforward.contract", f"{theirs}/output"),
        *KERAS.norm(f"{ours}.feedforward_norm", f"{theirs}/LayerNorm_mlp_ln1"),
    ]


FAMILY = Family(
    "gpt2",
    (),
    {**DEFAULTS, "activation": "gelu_tanh"},
    names,
    recognises,
    reads,
    exports,
    application="lm",
    heads=("lm",),
    fixed=FIXED,
)
CPM = replace(
    FAMILY,
    name="cpm",
    words=("cpm_lm",),
    reads=reads_cpm,
    recognises=lambda names, raw: any_name(names, r"^transformer\.layers\.0\.input_layernorm"),
    dialects=("tensorflow", "transformers", "megatron"),
)
GPT2_ML = Family(
    "gpt2_ml",
    ("grover",),
    {**DEFAULTS, "norm_place": "feedforward", "embedding_norm": "before_dropout", "pad_id": 0},
    grover_names,
    lambda names, raw: any_name(names, r"^newslm/"),
    application="lm",
    heads=("lm",),
    dialects=("tensorflow",),
    fixed=FIXED,
)
