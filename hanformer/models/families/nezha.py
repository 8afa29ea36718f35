"""NEZHA: BERT with fixed relative positions on keys and values.

Source: Wei et al. 2019, arXiv 1909.00204.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hanformer.config import ModelConfig
from hanformer.models.families import bert
from hanformer.models.families.family import Family, Names, Raw, any_name
from hanformer.models.names import NameMap
from hanformer.weights.protocols import Source

DEFAULTS = {"position": "relative_sinusoidal", "relative_distance": 64}


#: Tables that are computed, which PyTorch conversions store.
_TABLES = re.compile(r"relative_positions_encoding")


def names(dialect: str, config: ModelConfig, present: Names) -> NameMap:
    """BERT's names; conversions to PyTorch stand under either prefix. NEZHA 的名称表。"""
    prefixes = ("nezha", "bert") if dialect == "transformers" else ("bert",)
    found = bert.names_under(prefixes, dialect, config, present)
    return NameMap(found.entries, (*found.ignored, _TABLES))


def recognises(names: Names, raw: Raw) -> bool:
    """BERT's names without positions, and a config that speaks of relative ones."""
    plain = any_name(names, r"encoder[/.]layer[_.]0[/.]attention[/.]self[/.]query")
    without = not any_name(names, r"position_embeddings(\.weight)?$")
    return plain and (without or "use_relative_position" in raw) and bool(_SAYS_SO & raw.keys())


def reads(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    """The head may have a table of its own."""
    return bert.own_table(raw, source)


_SAYS_SO = {"use_relative_position", "max_relative_position"}

FAMILY = Family("nezha", (), DEFAULTS, names, recognises, reads)
