"""RoBERTa as fairseq and transformers have it: BERT, with positions that count from 2 and a head of other names.

Chinese RoBERTa-wwm is a BERT, in names too, and opens as one under either word.
Source: Liu et al. 2019, arXiv 1907.11692.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hanformer.config import ModelConfig
from hanformer.dialects import whole_number
from hanformer.models.families import bert
from hanformer.models.families.family import TRAINING_LEFTOVERS, Family, Names, Raw, any_name, refuse
from hanformer.models.names import TORCH, Entry, NameMap, entry, first_rows_dropped, flattened
from hanformer.weights.protocols import Source

#: Rows of the position table that stand before the first position.
UNUSED = 2
_TYPES = ("roberta", "xlm-roberta", "camembert")


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """RoBERTa's names, or BERT's where the checkpoint has those. RoBERTa 的名称表。"""
    if dialect == "tensorflow" or _is_bert(present):
        return bert.names(dialect, config, present)
    path = bert.root(dialect, present, "roberta")
    layers = (
        bert.layer_entries(TORCH, f"stack.blocks.{layer}", f"{path}encoder/layer_{layer}")
        for layer in range(config.layers)
    )
    pooler = TORCH.linear("pooler.dense", f"{path}pooler/dense")
    parts = [_positions(path), bert.embedding_entries(TORCH, path), *layers, pooler, _head(config)]
    return NameMap(flattened(parts), (*TRAINING_LEFTOVERS, *bert.TIED, *bert.TIED_BIAS))


def _positions(path: str) -> list[Entry]:
    table = f"{path}embeddings/position_embeddings/weight".replace("/", ".")
    return [entry("embeddings.position.weight", table, first_rows_dropped(UNUSED))]


def _head(config: ModelConfig) -> list[Entry]:
    return [
        *TORCH.linear("lm_head.transform", "lm_head/dense"),
        *TORCH.norm("lm_head.norm", "lm_head/layer_norm"),
        *bert.output_entries(TORCH, "lm_head/", config),
    ]


def _is_bert(present: Names) -> bool:
    return any_name(present, r"^(bert|cls)[/.]")


def recognises(names: Names, raw: Raw) -> bool:
    """Its own prefix, or a config that says so."""
    return any_name(names, r"^roberta\.embeddings") or (
        raw.get("model_type") in _TYPES and not _is_bert(names)
    )


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """The unused positions are not ours."""
    if dialect == "tensorflow" or _is_bert(frozenset(source.names())):
        return bert.reads(raw, dialect, source)
    refuse(raw, {"hidden_act": ("gelu",)})
    places = whole_number(raw, "max_position_embeddings", default=512 + UNUSED) - UNUSED
    said = {"pad_id": raw.get("pad_token_id", 1), "norm_epsilon": raw.get("layer_norm_eps", 1e-5)}
    return {**bert.reads(raw, dialect, source), "max_positions": places, **said}


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    kind = bert.language_model("Roberta", config) if "lm" in heads else "RobertaModel"
    values = {**bert.common_export(config), "model_type": "roberta", "architectures": [kind]}
    return {**values, "max_position_embeddings": config.max_positions + UNUSED}


FAMILY = Family("roberta", _TYPES[1:], {}, names, recognises, reads, exports)
