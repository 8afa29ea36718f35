"""Labelled and unlabelled batches side by side, for objectives that need no labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import nn

from hanformer.data.batches import Batches, BatchSource
from hanformer.errors import UserError
from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_strength

Labelled = TypeVar("Labelled")
Unlabelled = TypeVar("Unlabelled")


@dataclass(frozen=True, eq=False)
class SideBySide(Generic[Labelled, Unlabelled]):
    """A batch with labels and one without.

    有标签与无标签的一对批次。
    """

    labelled: Labelled
    unlabelled: Unlabelled


def with_unlabelled(
    objective: Objective[Labelled], penalty: Objective[Unlabelled], strength: float = 1.0
) -> Objective[SideBySide[Labelled, Unlabelled]]:
    """The mean loss of the labelled batch + strength · the mean penalty of the unlabelled one.

    有标签损失与无标签惩罚之和。

    total = total_l + strength · count_l · total_u / count_u, counted by the labelled batch. `penalty` is
    `instability` or `agreement`. Of several accumulated micro-batches each has its own mean penalty. Strength 0
    leaves the unlabelled batches unread. Raises UserError for a strength that is negative or not finite.
    Source: kexue.fm/archives/7466, which alternates updates by the two.
    """
    check_strength("with_unlabelled", strength)

    def both(model: nn.Module, batch: SideBySide[Labelled, Unlabelled]) -> Loss:
        loss = objective(model, batch.labelled)
        if not strength:
            return loss
        other = penalty(model, batch.unlabelled)
        return Loss(loss.total + strength * loss.count * other.mean(), loss.count, loss.outputs)

    return both


class SideBySideSource(Generic[Labelled, Unlabelled]):
    """Every labelled batch of an epoch beside an unlabelled one; those start again when they run out.

    同时给出有标签与无标签批次的来源。

    An epoch is as long as the labelled one. Where there are more unlabelled batches, the first of each epoch are
    taken, which a shuffled source draws anew.
    """

    def __init__(self, labelled: BatchSource[Labelled], unlabelled: BatchSource[Unlabelled]) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled

    def batches(self, epoch: int) -> _Pairs[Labelled, Unlabelled]:
        """The pairs of an epoch; raises UserError where there is no unlabelled batch. 某一轮的批次对。"""
        unlabelled = self._unlabelled.batches(epoch)
        if not len(unlabelled):
            raise UserError(f"epoch {epoch} has no unlabelled batches: the unlabelled data is empty")
        return _Pairs(self._labelled.batches(epoch), unlabelled)


class _Pairs(Generic[Labelled, Unlabelled]):
    def __init__(self, labelled: Batches[Labelled], unlabelled: Batches[Unlabelled]) -> None:
        self._labelled, self._unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self._labelled)

    def __getitem__(self, index: int) -> SideBySide[Labelled, Unlabelled]:
        place = range(len(self))[index]
        return SideBySide(self._labelled[place], self._unlabelled[place % len(self._unlabelled)])

    def __iter__(self) -> Iterator[SideBySide[Labelled, Unlabelled]]:
        return (self[place] for place in range(len(self)))
