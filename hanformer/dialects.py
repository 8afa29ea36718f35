"""How others write a config: keys and words of Google, transformers and bert4keras, told in ours.

外来配置的写法：把各家的键与词换成本项目的。
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from hanformer.errors import UserError

#: Foreign key -> our key. Google, Hugging Face and bert4keras words stand here side by side.
ALIASES: dict[str, str] = {
    "num_hidden_layers": "layers",
    "num_attention_heads": "attention_heads",
    "num_key_value_heads": "key_value_heads",
    "head_dim": "attention_head_size",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_positions",
    "max_position": "max_positions",
    "type_vocab_size": "segment_vocab_size",
    "layer_norm_eps": "norm_epsilon",
    "rms_norm_eps": "norm_epsilon",
    "rope_theta": "rotary_base",
    "pad_token_id": "pad_id",
    "model_type": "family",
    "initializer_range": "initial_deviation",
    "residual_attention_scores": "residual_attention",
    # GPT and GPT-2 as transformers writes them
    "n_embd": "hidden_size",
    "n_layer": "layers",
    "n_head": "attention_heads",
    "n_positions": "max_positions",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "norm_epsilon",
    "afn": "activation",
    "activation_function": "activation",
    "resid_pdrop": "dropout",
    "attn_pdrop": "attention_dropout",
    # T5 as transformers writes it
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "d_kv": "attention_head_size",
    "num_layers": "layers",
    "num_decoder_layers": "decoder_layers",
    "num_heads": "attention_heads",
    "dropout_rate": "dropout",
    "relative_attention_num_buckets": "relative_buckets",
    "relative_attention_max_distance": "relative_distance",
    "max_relative_position": "relative_distance",
}

#: What the same words mean elsewhere.
ACTIVATION_ALIASES = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_sigmoid",
    "swish": "silu",
}

#: How early releases of Llama write that nothing stands for padding.
_NO_PADDING = -1


def in_our_words(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The values of a JSON object under our names; those that are not among the `known` stand in `extra`.

    把外来写法换成本项目的字段名；不认识的键放入 extra。

    Raises UserError where a value has another form than any dialect gives it.
    """
    own: dict[str, Any] = {}
    extra = dict(_record("extra", values.get("extra")))
    for key, value in _rewritten(values).items():
        name = ALIASES.get(key, key)
        if name == "extra":
            continue
        if name in known:
            own[name] = value
        else:
            extra[key] = value
    if isinstance(word := own.get("activation"), str):
        own["activation"] = ACTIVATION_ALIASES.get(word, word)
    if own.get("pad_id") == _NO_PADDING:
        own["pad_id"] = None
    return {**own, "extra": extra}


def _rewritten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that other dialects write otherwise: two activations of a gated layer, α of hierarchical positions,
    a rotary base inside a record, GPT-2's null for "four times the width"."""
    changed = {key: value for key, value in values.items() if value is not None or key != "n_inner"}
    if isinstance(pair := changed.get("hidden_act"), list):
        if len(pair) != 2 or pair[1] != "linear":
            raise UserError(f"config: hidden_act {pair!r}: expected one activation, or [activation, linear]")
        changed.update(hidden_act=pair[0], feedforward="gated")
    alpha = changed.pop("hierarchical_position", None)
    if alpha:
        changed["hierarchical_positions"] = 0.4 if alpha is True else alpha
    if "rope_theta" in (rope := rotary_record(changed)):
        changed.setdefault("rope_theta", rope["rope_theta"])
    return changed


def rotary_record(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What transformers writes of rotary positions in a record of their own; empty where it writes none.

    transformers 配置中关于旋转位置的记录。

    Raises UserError where it is no record.
    """
    key = "rope_parameters" if values.get("rope_parameters") else "rope_scaling"
    return _record(key, values.get(key))


def whole_number(values: Mapping[str, Any], *keys: str, default: int) -> int:
    """The first of these keys that a JSON object has, for those who compute with it; raises UserError for no number.

    取配置中的整数，供计算使用。
    """
    found = next(((key, values[key]) for key in keys if key in values), (keys[0], default))
    if not is_count(found[1]):
        raise UserError(f"config: {found[0]} must be a whole number of at least 0, got {found[1]!r}")
    return int(found[1])


def _record(key: str, value: Any) -> Mapping[str, Any]:
    if value and not isinstance(value, Mapping):
        raise UserError(f"config: {key} must be a JSON object of names and values, got {value!r}")
    return value or {}


def is_count(value: object, least: int = 0) -> bool:
    """Whether a value is a whole number, no truth value, of at least so much. 是否为不小于下限的整数。"""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
