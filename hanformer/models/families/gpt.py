"""GPT, and CDial-GPT after it: post-norm, causal, the token table as output.

Source: Radford et al. 2018; Wang et al. 2020, arXiv 2008.03946 (CDial-GPT).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hanformer.config import ModelConfig
from hanformer.dialects import whole_number
from hanformer.models.families.bert import ACTIVATION_WORDS, TIED, embedding_entries, layer_entries
from hanformer.models.families.family import TRAINING_LEFTOVERS, Family, Names, Raw, any_name, refuse, root_of
from hanformer.models.names import KERAS, TORCH, TRANSPOSED, Entry, NameMap, entry, flattened, split
from hanformer.weights.protocols import Source

#: Every GPT reads to the left only; `encoder` is another word for it.
APPLICATIONS = ("encoder", "lm", "unilm")


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """GPT's names. GPT 的名称表。"""
    if dialect == "tensorflow":
        layers = (
            layer_entries(KERAS, f"stack.blocks.{layer}", f"gpt/transformer/layer_{layer}")
            for layer in range(config.layers)
        )
        return NameMap(flattened([embedding_entries(KERAS, "gpt/"), *layers]), TRAINING_LEFTOVERS)
    path = root_of(present, "tokens_embed.weight", "transformer.")
    tables = [
        *TORCH.embedding("embeddings.token", f"{path}tokens_embed"),
        *TORCH.embedding("embeddings.position", f"{path}positions_embed"),
    ]
    layers = (
        transformers_layer(f"stack.blocks.{layer}", f"{path}h.{layer}", "attention_norm", "feedforward_norm")
        for layer in range(config.layers)
    )
    return NameMap(flattened([tables, *layers]), (*TRAINING_LEFTOVERS, *TIED, *TRANSFORMERS_BUFFERS))


def transformers_layer(ours: str, theirs: str, first_norm: str, second_norm: str) -> list[Entry]:
    """A layer of GPT or GPT-2 as transformers has it: one fused projection, kernels [in, out].

    transformers 中 GPT 系的一层：融合的投影。
    """
    fused = ("query", "key", "value")
    return [
        Entry(
            tuple(f"{ours}.attention.{part}.weight" for part in fused),
            (f"{theirs}.attn.c_attn.weight",),
            TRANSPOSED.then(split(3)),
        ),
        Entry(
            tuple(f"{ours}.attention.{part}.bias" for part in fused),
            (f"{theirs}.attn.c_attn.bias",),
            split(3),
        ),
        *_kernel(f"{ours}.attention.output", f"{theirs}.attn.c_proj"),
        *TORCH.norm(f"{ours}.{first_norm}", f"{theirs}.ln_1"),
        *_kernel(f"{ours}.feedforward.expand", f"{theirs}.mlp.c_fc"),
        *_kernel(f"{ours}.feedforward.contract", f"{theirs}.mlp.c_proj"),
        *TORCH.norm(f"{ours}.{second_norm}", f"{theirs}.ln_2"),
    ]


def _kernel(ours: str, theirs: str) -> list[Entry]:
    return [
        entry(f"{ours}.weight", f"{theirs}.weight", TRANSPOSED),
        entry(f"{ours}.bias", f"{theirs}.bias"),
    ]


TRANSFORMERS_BUFFERS = (re.compile(r"\.attn\.(bias|masked_bias)$"), re.compile(r"^lm_head\.weight$"))


def recognises(names: Names, raw: Raw) -> bool:
    """Its own tables, and a norm after attention."""
    google = any_name(names, r"^gpt/embeddings/") and any_name(names, r"layer_0/attention/output/LayerNorm")
    return google or any_name(names, r"tokens_embed\.weight$")


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """transformers' GPT means the tanh form when it says gelu, has no segments, and is 4 times as wide inside."""
    if dialect != "transformers":
        return {}
    refuse(raw, {"tie_word_embeddings": (True,)})
    word = raw.get("afn", raw.get("activation_function", "gelu"))
    width = whole_number(raw, "n_embd", "hidden_size", default=768)
    return {
        "activation": "gelu_tanh" if word == "gelu" else word,
        "segment_vocab_size": 0,
        "intermediate_size": 4 * width,
        "norm_epsilon": raw.get("layer_norm_epsilon", 1e-5),
        "pad_id": raw.get("pad_token_id"),
    }


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    return {
        "model_type": "openai-gpt",
        "architectures": ["OpenAIGPTLMHeadModel" if "lm" in heads else "OpenAIGPTModel"],
        **gpt_export(config, "afn"),
    }


def gpt_export(config: ModelConfig, activation: str) -> dict[str, Any]:
    """What GPT and GPT-2 share. GPT 系配置的公共部分。"""
    word = ACTIVATION_WORDS.get(config.activation, config.activation)
    return {
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden_size,
        "n_layer": config.layers,
        "n_head": config.attention_heads,
        "n_positions": config.max_positions,
        "n_inner": config.intermediate_size,
        activation: "gelu" if activation == "afn" and word == "gelu_new" else word,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
        "layer_norm_epsilon": config.norm_epsilon,
        "initializer_range": config.initial_deviation,
        "pad_token_id": config.pad_id,
    }


FAMILY = Family(
    "gpt",
    ("openai-gpt", "cdial_gpt"),
    {"embedding_norm": "none", "lm_head": "tied"},
    names,
    recognises,
    reads,
    exports,
    application="lm",
    heads=("lm",),
)
