"""ELECTRA: a generator, which is a small masked language model, and a discriminator.

Source: Clark et al. 2020, arXiv 2003.10555.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanformer.config import ModelConfig
from hanformer.models.families import bert
from hanformer.models.families.family import TRAINING_LEFTOVERS, Family, Names, Raw, any_name, refuse
from hanformer.models.names import KERAS, Entry, NameMap, Words, entry, flattened
from hanformer.weights.protocols import Source


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """The discriminator's names. ELECTRA 判别器的名称表。"""
    words = bert.words_of(dialect, present)
    path = "electra/" if words is KERAS else bert.root(dialect, present, "electra")
    head = [
        *words.linear("discriminator.dense", "discriminator_predictions/dense"),
        *words.linear(
            "discriminator.output",
            "discriminator_predictions/" + ("dense_1" if words is KERAS else "dense_prediction"),
        ),
    ]
    parts = [bert.embedding_entries(words, path, bert.MAPPINGS[1]), *_layers(words, path, config), head]
    return NameMap(flattened(parts), (*TRAINING_LEFTOVERS, *bert.TIED))


def generator_names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """The generator's names; in TensorFlow its tables are the discriminator's. ELECTRA 生成器的名称表。"""
    words = bert.words_of(dialect, present)
    path = "generator/" if words is KERAS else bert.root(dialect, present, "electra")
    bias = "generator_predictions/output_bias" if words is KERAS else "generator_lm_head/bias"
    head = [
        *words.linear("lm_head.transform", "generator_predictions/dense"),
        *words.norm("lm_head.norm", "generator_predictions/LayerNorm"),
        *words.vector("lm_head.bias", bias),
        entry("lm_head.output.weight", "generator_lm_head.weight"),
    ]
    parts = [*_tables(words, path, present), *_layers(words, path, config), head]
    return NameMap(flattened(parts), (*TRAINING_LEFTOVERS, *bert.TIED))


def _tables(words: Words, path: str, present: Names) -> list[list[Entry]]:
    own = bert.embedding_entries(words, path, bert.MAPPINGS[1])
    if words is not KERAS or any_name(present, r"^generator/embeddings/word_embeddings$"):
        return [own]
    mapping = [found for found in own if found.ours[0].startswith("embeddings.mapping")]
    return [mapping, bert.embedding_entries(words, "electra/")]


def _layers(words: Words, path: str, config: ModelConfig) -> list[list[Entry]]:
    return [
        bert.layer_entries(words, f"stack.blocks.{layer}", f"{path}encoder/layer_{layer}")
        for layer in range(config.layers)
    ]


def recognises(names: Names, raw: Raw) -> bool:
    """Its own prefix or a config that says so, and no head of a generator alone."""
    said = raw.get("model_type") == "electra" or any_name(names, r"^electra[/.]")
    return said and not recognises_generator(names, raw)


def recognises_generator(names: Names, raw: Raw) -> bool:
    """A generator's head, and no discriminator beside it."""
    return any_name(names, r"^generator_predictions") and not any_name(names, r"^discriminator_predictions")


def reads_generator(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """transformers' head has gelu, whatever the layers have."""
    if dialect == "transformers":
        refuse(raw, {"hidden_act": ("gelu",)})
    return bert.reads(raw, dialect, source)


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    discriminator = "ElectraForPreTraining" if "discriminator" in heads else "ElectraModel"
    return {
        **bert.common_export(config),
        "model_type": "electra",
        "architectures": [bert.language_model("Electra", config) if "lm" in heads else discriminator],
        "embedding_size": config.embedding_width,
    }


FAMILY = Family(
    "electra",
    (),
    {},
    names,
    recognises,
    bert.reads,
    exports,
    applications=("encoder",),
    heads=("discriminator",),
)
GENERATOR = Family(
    "electra_generator",
    (),
    {},
    generator_names,
    recognises_generator,
    reads_generator,
    exports,
    heads=("lm",),
)
