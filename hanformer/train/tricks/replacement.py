"""Random replacement of the target's inputs: training that meets mistakes, as generation will."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Literal

import torch

from hanformer.data.batches import Collate
from hanformer.data.sequences import SequenceBatch
from hanformer.errors import UserError
from hanformer.train.tricks.checks import check_at_least, check_share

Pool = Literal["target", "row", "vocabulary"]
POOLS = ("target", "row", "vocabulary")


@dataclass(frozen=True)
class Replacement:
    """How many of the tokens that a target is predicted from are replaced, and by what.

    目标端输入的随机替换方案。

    `rows`: the share of examples that are disturbed; `tokens`: the share of target inputs replaced in those.
    `pool`: from where a token is drawn, each place with equal chance: "target", the inputs of the same target;
    "row", all that the model reads of the example, as the released code does; "vocabulary", the ids from 0 to
    `vocabulary_size`. The token drawn may be the one that stands there. Source and labels stay.
    Raises UserError for shares outside 0 to 1, another pool, and a vocabulary without a size.
    Source: kexue.fm/archives/7259.
    """

    rows: float = 0.5
    tokens: float = 0.3
    pool: Pool = "target"
    vocabulary_size: int = 0

    def __post_init__(self) -> None:
        check_share("replacement: rows", self.rows)
        check_share("replacement: tokens", self.tokens)
        if self.pool not in POOLS:
            raise UserError(f"replacement: pool: expected one of {', '.join(POOLS)}, got {self.pool!r}")
        if self.pool == "vocabulary":
            check_at_least("replacement: vocabulary_size", self.vocabulary_size, 1)

    def disturbed(self, batch: SequenceBatch, random: Random) -> SequenceBatch:
        """The batch with some target inputs (segment 1) replaced; another one whenever it is drawn.

        替换部分目标输入后的批次。
        """
        ids, segments = batch.token_ids.tolist(), batch.layout.segments.tolist()
        borders = batch.layout.offsets
        for start, stop in pairwise(borders):
            if random.random() < self.rows:
                self._disturb(ids, [place for place in range(start, stop) if segments[place]], start, random)
        return replace(batch, token_ids=torch.tensor(ids, dtype=batch.token_ids.dtype))

    def _disturb(self, ids: list[int], targets: Sequence[int], start: int, random: Random) -> None:
        if not targets:
            return
        row = targets if self.pool == "target" else range(start, targets[-1] + 1)
        pool = range(self.vocabulary_size) if self.pool == "vocabulary" else [ids[place] for place in row]
        for place in targets:
            if random.random() < self.tokens:
                ids[place] = random.choice(pool)


def replacing(collate: Collate[SequenceBatch], how: Replacement) -> Collate[SequenceBatch]:
    """The collate function whose batches are disturbed, by the generator that it is given: resumable, anew each epoch.

    在组批时随机替换目标输入。
    """

    def disturbed(indices: Sequence[int], random: Random) -> SequenceBatch:
        return how.disturbed(collate(indices, random), random)

    return disturbed if how.rows and how.tokens else collate
