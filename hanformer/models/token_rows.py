"""Vocabularies cut down and extended when a model is loaded: keep_tokens and compound_tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    def check(self, published: int) -> None:
        """Raises UserError for ids that the vocabulary does not have."""
        kept = published if self.keep is None else len(self.keep)
        wrong = [token for token in self.keep or () if not 0 <= token < published]
        if wrong:
            raise UserError(f"keep_tokens: ids lie between 0 and {published - 1}, got {wrong[:4]}")
        for place, compound in enumerate(self.compounds):
            ids, weights = _parts(compound)
            if not ids or len(ids) != len(weights) or not sum(weights):
                raise UserError(
                    f"compound_tokens[{place}]: expected ids, or ids and as many weights, got {compound!r}"
                )
            if not all(0 <= token < kept for token in ids):
                raise UserError(
                    f"compound_tokens[{place}]: ids lie between 0 and {kept - 1} (after keep_tokens), got {list(ids)}"
                )

    def apply(self, table: Tensor) -> Tensor:
        """[V, ...] to the rows of the new vocabulary."""
        kept = table if self.keep is None else table[torch.tensor(self.keep, dtype=torch.int64)]
        if not self.compounds:
            return kept
        return torch.cat([kept, torch.stack([_average(kept, compound) for compound in self.compounds])])


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
