"""T5 (1.0 and 1.1) and mT5: encoder and decoder, relative position buckets, RMS norms, no biases.

Source: Raffel et al. 2019, arXiv 1910.10683; mT5: Xue et al. 2020, arXiv 2010.11934; kexue.fm/archives/7867.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hanformer.config import ModelConfig
from hanformer.dialects import ACTIVATION_ALIASES
from hanformer.errors import UserError
from hanformer.models.families.bert import ACTIVATION_WORDS
from hanformer.models.families.family import TRAINING_LEFTOVERS, Family, Names, Raw, any_name
from hanformer.models.names import SAME, TRANSPOSED, Entry, NameMap, Transform, entry, flattened
from hanformer.weights.protocols import Source

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


#: Copies of the token table, which .bin files of tied models hold.
_COPIES = (re.compile(r"^lm_head\.weight$"), re.compile(r"^(encoder|decoder)\.embed_tokens\.weight$"))
#: Share T5's names, not what they stand for: relative positions in every layer, sparse attention, experts.
_KIN = ("umt5", "longt5", "switch_transformers")
#: What an encoder alone leaves in the file of both.
_DECODER = re.compile(r"^decoder[/.]")


@dataclass(frozen=True)
class Spelling:
    """How a dialect names the parts of a layer, and turns their tensors."""

    keras: bool
    norm: str
    transform: Transform

    def at(self, place: tuple[str, int, int], name: str, kind: str = "") -> str:
        """The name of a part, such as SelfAttention/q, of stack, layer and sublayer."""
        stack, layer, part = place
        if self.keras:
            return f"{stack}/block_{layer:03d}/layer_{part:03d}/{name}{kind}"
        return f"{stack}.block.{layer}.layer.{part}.{name.replace('/', '.')}.weight"


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """T5's names. T5 的名称表。"""
    keras = dialect == "tensorflow"
    norm = _norm_word(config, present) if keras else "layer_norm"
    spelling = Spelling(keras, norm, TRANSPOSED if keras else SAME)
    stacks = {"encoder": config.layers, "decoder": config.decoder_layers or 0}
    parts = [_tables(keras)]
    for stack, count in stacks.items():
        parts.append(_stack_ends(spelling, stack))
        for layer in range(count):
            parts += [_attentions(spelling, stack, layer), _feedforward(spelling, stack, layer, config)]
    copies = () if keras or config.lm_head == "untied" else _COPIES
    if config.decoder_layers is None:
        return NameMap(tuple(map(_of_encoder, flattened(parts))), (*TRAINING_LEFTOVERS, *_COPIES, _DECODER))
    return NameMap(flattened(parts), (*TRAINING_LEFTOVERS, *copies))


def _of_encoder(found: Entry) -> Entry:
    """The same where the encoder is a model of one stack."""
    ours = (re.sub(r"^encoder\.", "stack.", name) for name in found.ours)
    return Entry(tuple(ours), found.theirs, found.transform)


def _tables(keras: bool) -> list[Entry]:
    if keras:
        return [
            entry("embeddings.token.weight", "shared/embedding"),
            entry("lm_head.output.weight", "decoder/logits/kernel", TRANSPOSED),
        ]
    return [
        entry("embeddings.token.weight", "shared.weight"),
        entry("embeddings.token.weight", "encoder.embed_tokens.weight"),
        entry("embeddings.token.weight", "decoder.embed_tokens.weight"),
        entry("lm_head.output.weight", "lm_head.weight"),
    ]


def _stack_ends(spelling: Spelling, stack: str) -> list[Entry]:
    bias = spelling.at((stack, 0, 0), "SelfAttention/relative_attention_bias")
    norm = f"{stack}.final_layer_norm.weight"
    if spelling.keras:
        norm = f"{stack}/{spelling.norm.replace('layer_norm', 'final_layer_norm')}/scale"
    return [
        entry(f"{stack}.relative.bias.weight", bias, spelling.transform),
        entry(f"{stack}.final_norm.weight", norm),
    ]


def _norm_word(config: ModelConfig, present: Names) -> str:
    """mT5 calls its norms rms_norm, T5 layer_norm."""
    multilingual = any_name(present, r"/rms_norm/scale$") if present else config.family == "mt5.1.1"
    return "rms_norm" if multilingual else "layer_norm"


def _attentions(spelling: Spelling, stack: str, layer: int) -> list[Entry]:
    attentions = {"attention": "SelfAttention", "cross": "EncDecAttention"}
    if stack == "encoder":
        del attentions["cross"]
    found = []
    for part, (name, theirs) in enumerate(attentions.items()):
        ours, place = f"{stack}.blocks.{layer}.{name}", (stack, layer, part)
        found.append(entry(f"{ours}_norm.weight", spelling.at(place, spelling.norm, "/scale")))
        for own, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
            published = spelling.at(place, f"{theirs}/{letter}")
            found.append(entry(f"{ours}.{own}.weight", published, spelling.transform))
    return found


def _feedforward(spelling: Spelling, stack: str, layer: int, config: ModelConfig) -> list[Entry]:
    ours, place = f"{stack}.blocks.{layer}.feedforward", (stack, layer, 2 if stack == "decoder" else 1)
    words = {"expand": "wi_0" if config.feedforward == "gated" else "wi", "gated": "wi_1", "contract": "wo"}
    found = [entry(f"{ours}_norm.weight", spelling.at(place, spelling.norm, "/scale"))]
    for own, theirs in words.items():
        published = spelling.at(place, f"DenseReluDense/{theirs}", "/kernel")
        found.append(entry(f"{ours}.{own}.weight", published, spelling.transform))
    return found


def _is_t5(names: Names) -> bool:
    """T5's own word for attention; the encoder alone has it too."""
    return any_name(names, r"(SelfAttention|EncDecAttention)[/.]q")


def recognises_first(names: Names, raw: Raw) -> bool:
    """One matrix into the feed-forward layer."""
    return _is_t5(names) and not any_name(names, r"wi_1")


def recognises_second(names: Names, raw: Raw) -> bool:
    """Two of them, and T5's names of norms."""
    return _is_t5(names) and any_name(names, r"wi_1") and not recognises_multilingual(names, raw)


def recognises_multilingual(names: Names, raw: Raw) -> bool:
    """As T5.1.1, with norms called rms_norm, or a config that says mt5."""
    return _is_t5(names) and (raw.get("model_type") == "mt5" or any_name(names, r"/rms_norm/"))


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """What transformers says in one word: the activation and whether the layer is gated; ties; and whether there is
    a decoder, which the names alone tell."""
    if raw.get("model_type") in _KIN:
        raise UserError(
            f"config: model_type is {raw['model_type']!r}, which is built otherwise than T5; open T5 or mT5"
        )
    alone = {} if _has_decoder(source) else {"decoder_layers": None, "lm_head": "untied"}
    said = _as_transformers_says(raw, source) if dialect == "transformers" else _published_gelu(raw)
    return {"decoder_layers": _decoder_layers(raw), **said, **alone}


def _as_transformers_says(raw: Raw, source: Source) -> Mapping[str, Any]:
    word = raw.get("feed_forward_proj", "relu")
    if not isinstance(word, str):
        raise UserError(f"config: feed_forward_proj must be an activation, or gated- and one, got {word!r}")
    activation = "gelu_new" if word == "gated-gelu" else word.removeprefix("gated-")
    tied = bool(raw.get("tie_word_embeddings", True))
    return {
        "feedforward": "gated" if word.startswith("gated-") else "plain",
        "activation": ACTIVATION_ALIASES.get(activation, activation),
        "lm_head": "tied" if tied and not _has_head(source) else "untied",
        "scale_lm": raw.get("model_type") != "mt5" and bool(raw.get("scale_decoder_outputs", tied)),
    }


def _decoder_layers(raw: Raw) -> Any:
    layers = raw.get("num_layers", raw.get("num_hidden_layers", raw.get("layers", 12)))
    return raw.get("decoder_layers") or raw.get("num_decoder_layers") or layers


def _has_decoder(source: Source) -> bool:
    """Of T5EncoderModel, and of sentence-t5, the encoder alone is published."""
    return any(_DECODER.match(name) for name in source.names())


def _published_gelu(raw: Raw) -> Mapping[str, Any]:
    """T5.1.1 was trained with the tanh form, though its config in bert4keras' words means the erf form there."""
    word = raw.get("hidden_act")
    if word == ["gelu", "linear"] and raw["convention"] == "standard":
        return {"activation": "gelu_tanh"}
    return {}


def _has_head(source: Source) -> bool:
    """Whether a table of its own is stored for the head: newer releases of transformers call every T5 tied."""
    if not {"lm_head.weight", "shared.weight"} <= set(source.names()):
        return False
    return not torch.equal(source.read("lm_head.weight"), source.read("shared.weight"))


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    kind = "mt5" if config.family == "mt5.1.1" else "t5"
    word = ACTIVATION_WORDS.get(config.activation, config.activation)
    gated = config.feedforward == "gated"
    return {
        "model_type": kind,
        "architectures": [_architecture(kind, config)],
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "d_kv": config.head_size,
        "d_ff": config.intermediate_size,
        "num_layers": config.layers,
        "num_decoder_layers": config.decoder_layers or config.layers,
        "num_heads": config.attention_heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "dropout_rate": config.dropout,
        "layer_norm_epsilon": config.norm_epsilon,
        "feed_forward_proj": ("gated-" if gated else "") + ("gelu" if gated and word == "gelu_new" else word),
        "tie_word_embeddings": config.lm_head == "tied",
        "scale_decoder_outputs": config.scale_lm,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }


def _architecture(kind: str, config: ModelConfig) -> str:
    return kind.upper() + ("EncoderModel" if config.decoder_layers is None else "ForConditionalGeneration")


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
