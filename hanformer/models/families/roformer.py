"""RoFormer: BERT with rotary positions; and its second version, without biases and gains.

Source: Su et al. 2021, arXiv 2104.09864; kexue.fm/archives/8265; version 2: kexue.fm/archives/8998.
"""

from __future__ import annotations

from typing import Any

from hanformer.config import ModelConfig
from hanformer.models.families import bert
from hanformer.models.families.family import Family, Names, Raw, any_name
from hanformer.models.names import Entry, NameMap


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """BERT's names; the second version's head is one map. RoFormer 的名称表。"""
    found = bert.names(dialect, config, present)
    words = bert.words_of(dialect, present)
    extra: list[Entry] = words.linear("lm_head.map", "cls/predictions/transform/dense")
    return NameMap((*found.entries, *extra), found.ignored)


def recognises(names: Names, raw: Raw) -> bool:
    """Says so itself: its names are BERT's."""
    return raw.get("model_type") == "roformer" or any_name(names, r"^roformer\.")


def recognises_second(names: Names, raw: Raw) -> bool:
    """BERT's names without a single bias or norm."""
    plain = any_name(names, r"encoder[/.]layer[_.]0[/.]attention[/.]self[/.]query")
    return plain and not any_name(names, r"(LayerNorm|[/.]bias$)")


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    return {
        **bert.common_export(config),
        "model_type": "roformer",
        "architectures": ["RoFormerForMaskedLM" if "lm" in heads else "RoFormerModel"],
        "embedding_size": config.embedding_width,
        "rotary_value": False,
    }


FAMILY = Family("roformer", (), {"position": "rotary"}, names, recognises, exports=exports)
SECOND = Family(
    "roformer_v2",
    ("roformerv2",),
    {
        "position": "rotary",
        "norm": "rms_plain",
        "norm_epsilon": 1e-7,
        "biases": "none",
        "embedding_norm": "after_dropout",
        "lm_head": "mapped",
    },
    names,
    recognises_second,
    heads=("lm",),
)
