"""RoFormer: BERT with rotary positions; and its second version, without biases and gains.

Source: Su et al. 2021, arXiv 2104.09864; kexue.fm/archives/8265; version 2: kexue.fm/archives/8998.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.models.families import bert
from hanformer.models.families.family import Family, Names, Raw, any_name, refuse
from hanformer.models.names import Entry, NameMap, made
from hanformer.nn.functional.positions import rotary_table
from hanformer.weights.protocols import Source


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """BERT's names; the second version's head is one map. RoFormer 的名称表。"""
    foreign = dialect == "transformers"
    prefix, mapping = ("roformer", bert.MAPPINGS[1]) if foreign else ("bert", bert.MAPPINGS[0])
    found = bert.names_under((prefix,), dialect, config, present, mapping)
    words = bert.words_of(dialect, present)
    extra: list[Entry] = words.linear("lm_head.map", "cls/predictions/transform/dense")
    if foreign:
        path = bert.root(dialect, present, "roformer").replace("/", ".")
        extra.append(Entry((), (f"{path}encoder.embed_positions.weight",), made(partial(_angles, config))))
    return NameMap((*found.entries, *extra), found.ignored)


def _angles(config: ModelConfig) -> Tensor:
    """The table that transformers stores: all sines, then all cosines."""
    table = rotary_table(torch.arange(config.max_positions), config.key_size, dtype=torch.float64)
    return table.flip(-2).flatten(-2)


def recognises(names: Names, raw: Raw) -> bool:
    """Says so itself: its names are BERT's."""
    return raw.get("model_type") == "roformer" or any_name(names, r"^roformer\.")


def recognises_second(names: Names, raw: Raw) -> bool:
    """BERT's names without a single bias or norm."""
    plain = any_name(names, r"encoder[/.]layer[_.]0[/.]attention[/.]self[/.]query")
    return plain and not any_name(names, r"(LayerNorm|[/.]bias$)")


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """Values are not turned."""
    refuse(raw, {"rotary_value": (False, None)})
    return bert.reads(raw, dialect, source)


def exports(config: ModelConfig, heads: tuple[str, ...]) -> dict[str, Any]:
    """The config.json that transformers reads. transformers 所用的配置。"""
    return {
        **bert.common_export(config),
        "model_type": "roformer",
        "architectures": [bert.language_model("RoFormer", config) if "lm" in heads else "RoFormerModel"],
        "embedding_size": config.embedding_width,
        "rotary_value": False,
    }


FAMILY = Family("roformer", (), {"position": "rotary"}, names, recognises, reads, exports)
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
