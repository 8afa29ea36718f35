"""Vocabularies cut down and extended when a model is loaded: keep_tokens and compound_tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hanformer.errors import UserError

#: Parameters with a row for every token.
TOKEN_PARAMETERS = ("embeddings.token.weight", "lm_head.bias", "lm_head.output.weight")

#: Ids whose rows are averaged, with weights or without.
Compound = Sequence[int] | tuple[Sequence[int], Sequence[float]]


@dataclass(frozen=True)
class TokenRows:
    """Which rows of the published tables a model takes, and which averages it adds at their end.

    从已发布的词表中保留哪些行，并在末尾追加哪些行的平均。

    `keep` are old ids in their new order (None: all); each compound is a list of ids after that selection, or such
    a list and weights, whose weighted average is the row of a new token. Source: kexue.fm/archives/7758.
    """

    keep: tuple[int, ...] | None = None
    compounds: tuple[Compound, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything is selected or added."""
        return self.keep is not None or bool(self.compounds)

    def count(self, published: int) -> int:
        """The size of the new vocabulary."""
        return (published if self.keep is None else len(self.keep)) + len(self.compounds)

    def place_of(self, token: int | None) -> int | None:
        """The new id of an old one; None for None, and where its row is left out."""
        if self.keep is None or token is None:
            return token
        return self.keep.index(token) if token in self.keep else None

    def check(self, published: int) -> None:
        """Raises UserError for ids that the vocabulary does not have."""
        kept = published if self.keep is None else len(self.keep)
        wrong = [token for token in self.keep or () if not _is_id(token, published)]
        if wrong:
            raise UserError(f"keep_tokens: ids are whole numbers from 0 to {published - 1}, got {wrong[:4]}")
        for place, compound in enumerate(self.compounds):
            if not isinstance(compound, (list, tuple)):
                raise UserError(f"compound_tokens[{place}]: expected a list of ids, got {compound!r}")
            ids, weights = _parts(compound)
            if not ids or not isinstance(weights, (list, tuple)) or len(ids) != len(weights):
                raise UserError(
                    f"compound_tokens[{place}]: expected ids, or ids and as many weights, got {compound!r}"
                )
            if not all(_is_id(token, kept) for token in ids):
                raise UserError(
                    f"compound_tokens[{place}]: ids are whole numbers from 0 to {kept - 1} (after keep_tokens), "
                    f"got {list(ids)}"
                )
            if not all(_is_weight(weight) for weight in weights) or not sum(weights):
                raise UserError(
                    f"compound_tokens[{place}]: weights are finite numbers whose sum is not 0, got {list(weights)}"
                )

    def apply(self, table: Tensor) -> Tensor:
        """[V, ...] to the rows of the new vocabulary."""
        kept = table if self.keep is None else table[torch.tensor(self.keep, dtype=torch.int64)]
        if not self.compounds:
            return kept
        return torch.cat([kept, torch.stack([_average(kept, compound) for compound in self.compounds])])


def _is_id(token: object, count: int) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and 0 <= token < count


def _is_weight(weight: object) -> bool:
    return isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)


def listed(name: str, values: object) -> tuple[Any, ...]:
    """The values as a tuple; raises UserError for what is no list. 校验为列表。"""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UserError(f"{name}: expected a list, got {values!r}")
    return tuple(values)


def _parts(compound: Compound) -> tuple[Sequence[int], Sequence[float]]:
    if len(compound) == 2 and isinstance(compound[0], (list, tuple)):
        ids, weights = compound
        return ids, weights  # type: ignore[return-value]
    return compound, [1.0] * len(compound)  # type: ignore[return-value]


def _average(table: Tensor, compound: Compound) -> Tensor:
    ids, weights = _parts(compound)
    share = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    rows = table[torch.tensor(ids, dtype=torch.int64)].double()
    return torch.tensordot(share, rows, dims=1).to(table.dtype)
