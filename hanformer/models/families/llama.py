"""The Llama and Qwen kind: rotary positions, RMS norms, gated SiLU, grouped keys and values.

Source: Touvron et al. 2023, arXiv 2302.13971; grouped heads: Ainslie et al. 2023, arXiv 2305.13245.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hanformer.config import ModelConfig
from hanformer.dialects import rotary_record, whole_number
from hanformer.mechanisms import Local
from hanformer.models.families.family import TRAINING_LEFTOVERS, Family, Names, Raw, any_name, refuse, root_of
from hanformer.models.names import SAME, Entry, NameMap, entry, flattened, rotary_halves, unstacked
from hanformer.weights.protocols import Source

DEFAULTS = {
    "norm": "rms",
    "norm_place": "pre",
    "norm_epsilon": 1e-5,
    "biases": "none",
    "feedforward": "gated",
    "activation": "silu",
    "position": "rotary",
    "lm_head": "untied",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "pad_id": None,
}


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """Llama's names, as transformers, Meta or llama2.c have them. Llama 的名称表。"""
    if dialect == "llama2.c":
        return _stacked(config) if "wq" in present else _metas(config, present)
    path = root_of(present, "embed_tokens.weight", "model.")
    ends = [
        entry("embeddings.token.weight", f"{path}embed_tokens.weight"),
        entry("stack.final_norm.weight", f"{path}norm.weight"),
        entry("lm_head.output.weight", "lm_head.weight"),
    ]
    layers = (_layer(config, layer, f"{path}layers.{layer}") for layer in range(config.layers))
    return NameMap(flattened([ends, *layers]), (*TRAINING_LEFTOVERS, re.compile(r"rotary_emb\.inv_freq$")))


def _layer(config: ModelConfig, layer: int, theirs: str) -> list[Entry]:
    ours = f"stack.blocks.{layer}"
    turns = {"query": rotary_halves(config.attention_heads), "key": rotary_halves(config.groups)}
    found = [
        entry(f"{ours}.attention_norm.weight", f"{theirs}.input_layernorm.weight"),
        entry(f"{ours}.feedforward_norm.weight", f"{theirs}.post_attention_layernorm.weight"),
        entry(f"{ours}.feedforward.expand.weight", f"{theirs}.mlp.gate_proj.weight"),
        entry(f"{ours}.feedforward.gated.weight", f"{theirs}.mlp.up_proj.weight"),
        entry(f"{ours}.feedforward.contract.weight", f"{theirs}.mlp.down_proj.weight"),
    ]
    for part, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
        for kind in ("weight", "bias"):
            published = f"{theirs}.self_attn.{letter}_proj.{kind}"
            found.append(entry(f"{ours}.attention.{part}.{kind}", published, turns.get(part, SAME)))
    return found


#: llama2.c's arrays, each stacked over layers; its rotary pairs stand side by side already.
_STACKED = {
    "attention_norm": "att_norm",
    "attention.query": "wq",
    "attention.key": "wk",
    "attention.value": "wv",
    "attention.output": "wo",
    "feedforward_norm": "ffn_norm",
    "feedforward.expand": "w1",
    "feedforward.contract": "w2",
    "feedforward.gated": "w3",
}
#: llama2.c's words for the norms, and Meta's.
_METAS_NORMS = {"att_norm": "attention_norm", "ffn_norm": "ffn_norm"}


#: What is not read: tables of angles, which are computed.
_ANGLES = (re.compile(r"(^|\.)(freqs?_(cos|sin)|rope\.freqs)$"),)


def _metas(config: ModelConfig, present: Names) -> NameMap:
    """Meta's own names, which llama2.c's .pt files have too; its exporters leave out the inner folders."""
    path = root_of(present, "tok_embeddings.weight", "")
    parts = [
        entry("embeddings.token.weight", f"{path}tok_embeddings.weight"),
        entry("stack.final_norm.weight", f"{path}norm.weight"),
        entry("lm_head.output.weight", f"{path}output.weight"),
    ]
    for layer in range(config.layers):
        for ours, theirs in _STACKED.items():
            inner = "attention." if ours.startswith("attention.") else "feed_forward."
            word = _METAS_NORMS.get(theirs, theirs)
            for folder in ("",) if theirs in _METAS_NORMS else (inner, ""):
                published = f"{path}layers.{layer}.{folder}{word}.weight"
                parts.append(entry(f"stack.blocks.{layer}.{ours}.weight", published))
    tied = (re.compile(r"(^|\.)output\.weight$"),) if config.lm_head == "tied" else ()
    return NameMap(tuple(parts), (*TRAINING_LEFTOVERS, *_ANGLES, *tied))


def _stacked(config: ModelConfig) -> NameMap:
    layers = range(config.layers)
    stacked = [
        Entry(
            tuple(f"stack.blocks.{layer}.{ours}.weight" for layer in layers),
            (theirs,),
            unstacked(len(layers)),
        )
        for ours, theirs in _STACKED.items()
    ]
    ends = [
        entry("embeddings.token.weight", "tok_embeddings"),
        entry("stack.final_norm.weight", "norm"),
        entry("lm_head.output.weight", "output"),
    ]
    return NameMap(flattened([ends, stacked]), _ANGLES)


def recognises(names: Names, raw: Raw) -> bool:
    """Gated layers with separate projections, llama2.c's arrays, or Meta's names."""
    return any_name(names, r"layers\.0\.(mlp\.gate_proj|(feed_forward\.)?w3)\.weight$") or "wq" in names


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """Ties, which projections have a bias, and how far tokens look."""
    refuse(raw, {"mlp_bias": (False,), "attention_bias": (False,), "use_sliding_window": (False,)})
    rotary = rotary_record(raw)
    refuse({"rope_type": rotary.get("rope_type", rotary.get("type"))}, {"rope_type": ("default", None)})
    tied = bool(raw.get("tie_word_embeddings", dialect == "llama2.c"))
    found: dict[str, Any] = {"lm_head": "tied" if tied else "untied"}
    if raw.get("model_type") == "qwen2":
        found["biases"] = "query_key_value"
    return {**found, **_window(raw)}


#: What transformers takes where the config of a Mistral leaves the window or the number of positions out.
_MISTRAL_WINDOW, _MISTRAL_POSITIONS = 4096, 4096 * 32


def _window(raw: Raw) -> dict[str, Any]:
    """Mistral's window of W tokens, itself included: i − j < W, which is local attention to the left. Llama and Qwen
    have the word and no use for it."""
    if raw.get("model_type") != "mistral" or raw.get("sliding_window", _MISTRAL_WINDOW) is None:
        return {}
    window = whole_number(raw, "sliding_window", default=_MISTRAL_WINDOW)
    places = whole_number(raw, "max_position_embeddings", default=_MISTRAL_POSITIONS)
    return {"attention": Local(window - 1)} if window < places else {}


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    kind, window = _kind(config)
    return {
        "model_type": kind.lower(),
        "architectures": [kind + ("ForCausalLM" if "lm" in heads else "Model")],
        **window,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.attention_heads,
        "num_key_value_heads": config.groups,
        "head_dim": config.head_size,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "hidden_act": config.activation,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "initializer_range": config.initial_deviation,
        "tie_word_embeddings": config.lm_head == "tied",
        "pad_token_id": config.pad_id,
    }


def _kind(config: ModelConfig) -> tuple[str, dict[str, Any]]:
    """What transformers calls it, and the window that only Mistral has."""
    if isinstance(config.attention, Local):
        return "Mistral", {"sliding_window": config.attention.radius + 1}
    return "Qwen2" if config.biases == "query_key_value" else "Llama", {}


FAMILY = Family(
    "llama",
    ("qwen", "qwen2", "mistral"),
    DEFAULTS,
    names,
    recognises,
    reads,
    exports,
    application="lm",
    heads=("lm",),
    dialects=("transformers", "llama2.c"),
    fixed={"segment_vocab_size": 0},
)
