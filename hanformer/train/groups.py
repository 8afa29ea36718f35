"""The micro-batches of each update, in an order that a resumed run finds again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from hanformer.data.batches import Batches, BatchSource
from hanformer.errors import UserError

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Group(Generic[Batch]):
    """The micro-batches of one update: `start` to `stop` (exclusive) of an epoch, dealt to `workers` in turn.

    一次更新所用的微批次，按轮次分给各进程。

    Iterating gives those of worker `rank`.
    """

    epoch: int
    start: int
    stop: int
    batches: Batches[Batch]
    rank: int = 0
    workers: int = 1

    @property
    def ends_epoch(self) -> bool:
        """Whether it is the last of its epoch."""
        return self.stop == len(self.batches)

    @property
    def place(self) -> str:
        """Where its batches are found again, for messages."""
        return f"epoch {self.epoch}, batches {self.start} to {self.stop - 1}"

    def __iter__(self) -> Iterator[Batch]:
        return (self.batches[index] for index in self.indices)

    @property
    def indices(self) -> range:
        """The places of these micro-batches in the epoch."""
        return range(self.start + self.rank, self.stop, self.workers)


def groups_from(source: BatchSource[Batch], epoch: int, batch: int, size: int) -> Iterator[Group[Batch]]:
    """Groups of `size` micro-batches from a place on, epoch after epoch; the last of an epoch may be smaller.

    从给定位置开始逐组给出微批次；每轮最后一组可能较小。

    Raises UserError for an epoch without batches.
    """
    while True:
        batches = source.batches(epoch)
        if len(batches) == 0:
            raise UserError(f"epoch {epoch} has no batches: the training data is empty")
        for start in range(batch, len(batches), size):
            yield Group(epoch, start, min(start + size, len(batches)), batches)
        epoch, batch = epoch + 1, 0


class SizedBatches(Generic[Batch]):
    """The batches of a group, their sizes added up as they pass: each batch is made once.

    逐个取批次并累计大小。
    """

    def __init__(self, group: Group[Batch], size_of: Callable[[Batch], int] | None) -> None:
        self._group = group
        self._size_of = size_of
        self.size: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._group:
            if self._size_of is not None:
                self.size = (self.size or 0) + self._size_of(batch)
            yield batch
