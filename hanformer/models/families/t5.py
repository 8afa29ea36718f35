"""T5 (1.0 and 1.1) and mT5: encoder and decoder, relative position buckets, RMS norms, no biases.

Source: Raffel et al. 2019, arXiv 1910.10683; mT5: Xue et al. 2020, arXiv 2010.11934; kexue.fm/archives/7867.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanformer.config import ModelConfig
from hanformer.models.families.bert import ACTIVATION_WORDS
from hanformer.models.families.family import TRAINING_LEFTOVERS, Family, Names, Raw, any_name
from hanformer.models.names import SAME, TRANSPOSED, Entry, NameMap, entry, flattened

_COMMON = {
    "norm": "rms",
    "norm_place": "pre",
    "norm_epsilon": 1e-6,
    "biases": "none",
    "position": "relative_buckets",
    "scale_attention": False,
}
FIRST = {**_COMMON, "activation": "relu", "lm_head": "tied", "scale_lm": True}
SECOND = {**_COMMON, "activation": "gelu_tanh", "feedforward": "gated", "lm_head": "untied"}


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """T5's names. T5 的名称表。"""
    keras = dialect == "tensorflow"
    layers = {"encoder": config.layers, "decoder": config.decoder_layers or config.layers}
    parts = [_ends(keras, present)]
    for stack, count in layers.items():
        parts += [_layer(keras, stack, layer, present) for layer in range(count)]
    return NameMap(flattened(parts), TRAINING_LEFTOVERS)


def _ends(keras: bool, present: Names) -> list[Entry]:
    if not keras:
        return [
            entry("embeddings.token.weight", "shared.weight"),
            entry("embeddings.token.weight", "encoder.embed_tokens.weight"),
            entry("embeddings.token.weight", "decoder.embed_tokens.weight"),
            entry("lm_head.output.weight", "lm_head.weight"),
            *(found for stack in ("encoder", "decoder") for found in _stack_ends(stack)),
        ]
    norm = _keras_norm(present).replace("layer_norm", "final_layer_norm")
    found = [
        entry("embeddings.token.weight", "shared/embedding"),
        entry("lm_head.output.weight", "decoder/logits/kernel", TRANSPOSED),
    ]
    for stack in ("encoder", "decoder"):
        bias = f"{stack}/block_000/layer_000/SelfAttention/relative_attention_bias"
        found += [
            entry(f"{stack}.relative.bias.weight", bias, TRANSPOSED),
            entry(f"{stack}.final_norm.weight", f"{stack}/{norm}/scale"),
        ]
    return found


def _stack_ends(stack: str) -> list[Entry]:
    return [
        entry(
            f"{stack}.relative.bias.weight",
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        ),
        entry(f"{stack}.final_norm.weight", f"{stack}.final_layer_norm.weight"),
    ]


def _keras_norm(present: Names) -> str:
    """mT5 calls its norms rms_norm, T5 layer_norm."""
    return "rms_norm" if any_name(present, r"/rms_norm/scale$") else "layer_norm"


def _layer(keras: bool, stack: str, layer: int, present: Names) -> list[Entry]:
    ours = f"{stack}.blocks.{layer}"
    last = 2 if stack == "decoder" else 1

    def at(part: int, name: str, kind: str = "kernel") -> str:
        if not keras:
            return f"{stack}.block.{layer}.layer.{part}.{name}.weight"
        return f"{stack}/block_{layer:03d}/layer_{part:03d}/{name}" + (f"/{kind}" if kind else "")

    transform = TRANSPOSED if keras else SAME
    norm = _keras_norm(present) if keras else "layer_norm"
    attentions = [("attention", 0, "SelfAttention")]
    if stack == "decoder":
        attentions.append(("cross", 1, "EncDecAttention"))
    found = []
    for name, part, theirs in attentions:
        found.append(entry(f"{ours}.{name}_norm.weight", at(part, norm, "scale")))
        for own, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
            found.append(
                entry(
                    f"{ours}.{name}.{own}.weight",
                    at(part, f"{theirs}/{letter}" if keras else f"{theirs}.{letter}", ""),
                    transform,
                )
            )
    dense = "DenseReluDense/" if keras else "DenseReluDense."
    return [
        *found,
        entry(f"{ours}.feedforward_norm.weight", at(last, norm, "scale")),
        entry(f"{ours}.feedforward.expand.weight", at(last, f"{dense}wi"), transform),
        entry(f"{ours}.feedforward.expand.weight", at(last, f"{dense}wi_0"), transform),
        entry(f"{ours}.feedforward.gated.weight", at(last, f"{dense}wi_1"), transform),
        entry(f"{ours}.feedforward.contract.weight", at(last, f"{dense}wo"), transform),
    ]


def _is_t5(names: Names) -> bool:
    return any_name(names, r"EncDecAttention[/.]q")


def recognises_first(names: Names, raw: Raw) -> bool:
    """One matrix into the feed-forward layer."""
    return _is_t5(names) and not any_name(names, r"wi_1")


def recognises_second(names: Names, raw: Raw) -> bool:
    """Two of them, and T5's names of norms."""
    return _is_t5(names) and any_name(names, r"wi_1") and not recognises_multilingual(names, raw)


def recognises_multilingual(names: Names, raw: Raw) -> bool:
    """As T5.1.1, with norms called rms_norm, or a config that says mt5."""
    return _is_t5(names) and (raw.get("model_type") == "mt5" or any_name(names, r"/rms_norm/"))


def reads(raw: Raw, dialect: str) -> Mapping[str, Any]:
    """What transformers says in one word: the activation and whether the layer is gated; ties."""
    found: dict[str, Any] = {}
    layers = raw.get("num_layers", raw.get("num_hidden_layers", raw.get("layers", 12)))
    found["decoder_layers"] = raw.get("decoder_layers") or raw.get("num_decoder_layers") or layers
    if dialect != "transformers":
        return found
    word = raw.get("feed_forward_proj", "relu")
    found["feedforward"] = "gated" if word.startswith("gated-") else "plain"
    activation = word.removeprefix("gated-")
    found["activation"] = "gelu_tanh" if word == "gated-gelu" else activation
    tied = raw.get("tie_word_embeddings", True)
    found.update(lm_head="tied" if tied else "untied", scale_lm=bool(tied))
    return found


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    kind = "mt5" if config.family == "mt5" else "t5"
    word = ACTIVATION_WORDS.get(config.activation, config.activation)
    gated = config.feedforward == "gated"
    return {
        "model_type": kind,
        "architectures": [f"{'MT5' if kind == 'mt5' else 'T5'}ForConditionalGeneration"],
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "d_kv": config.head_size,
        "d_ff": config.intermediate_size,
        "num_layers": config.layers,
        "num_decoder_layers": config.decoder_layers,
        "num_heads": config.attention_heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "dropout_rate": config.dropout,
        "layer_norm_epsilon": config.norm_epsilon,
        "feed_forward_proj": ("gated-" if gated else "") + ("gelu" if gated and word == "gelu_new" else word),
        "tie_word_embeddings": config.lm_head == "tied",
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }


_APPLICATIONS = ("encoder",)
_FIXED = {"segment_vocab_size": 0}
T5_FIRST = Family(
    "t5.1.0",
    ("t5",),
    FIRST,
    names,
    recognises_first,
    reads,
    exports,
    applications=_APPLICATIONS,
    heads=("lm",),
    fixed=_FIXED,
)
T5_SECOND = Family(
    "t5.1.1",
    (),
    SECOND,
    names,
    recognises_second,
    reads,
    exports,
    applications=_APPLICATIONS,
    heads=("lm",),
    fixed=_FIXED,
)
MT5 = Family(
    "mt5.1.1",
    ("mt5",),
    SECOND,
    names,
    recognises_multilingual,
    reads,
    exports,
    applications=_APPLICATIONS,
    heads=("lm",),
    fixed=_FIXED,
)
