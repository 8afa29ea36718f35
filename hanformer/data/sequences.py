"""Source and target joined into one packed sequence, as UniLM trains: predict the target, see all of the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.nn.functional.packing import Layout


@dataclass(frozen=True)
class Pair:
    """One example as token ids: the source with its borders, the target with its end token.

    一个样本：源序列（含边界符）与目标序列（含结束符）的编号。

    `condition` is the number of the condition that it is written under, where the model has learned some.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    condition: int | None = None

    @property
    def length(self) -> int:
        """Tokens that the model reads: the end token is predicted and never read."""
        return len(self.source) + len(self.target) - 1


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """A packed batch with the places that predict and the tokens that they should predict.

    打包批次，以及需要预测的位置与标签。

    `token_ids` [N]; `layout` with segment 0 for sources and 1 for targets; `predictors` [M] are places on the
    packed axis whose next token is `labels` [M]; `conditions` [R] are the numbers of the rows' conditions, if any.
    """

    token_ids: Tensor
    layout: Layout
    predictors: Tensor
    labels: Tensor
    conditions: Tensor | None = None

    def to(self, device: torch.device) -> SequenceBatch:
        """The same batch on another device."""
        return SequenceBatch(
            self.token_ids.to(device),
            self.layout.to(device),
            self.predictors.to(device),
            self.labels.to(device),
            None if self.conditions is None else self.conditions.to(device),
        )


def join_pairs(pairs: Sequence[Pair]) -> SequenceBatch:
    """Packs pairs as [source][target without its end], to be predicted from the last source token on.

    把（源，目标）对拼接打包；从源序列最后一个词元开始预测目标。

    Targets must not be empty; all pairs have a condition or none has.
    Source: UniLM, arXiv 1905.03197; kexue.fm/archives/6933.
    """
    ids: list[int] = []
    segments: list[int] = []
    predictors: list[int] = []
    labels: list[int] = []
    for pair in pairs:
        start = len(ids) + len(pair.source) - 1
        predictors.extend(range(start, start + len(pair.target)))
        labels.extend(pair.target)
        ids.extend(pair.source + pair.target[:-1])
        segments.extend([0] * len(pair.source) + [1] * (len(pair.target) - 1))
    layout = Layout.of([pair.length for pair in pairs], torch.tensor(segments))
    given = [pair.condition for pair in pairs if pair.condition is not None]
    return SequenceBatch(
        torch.tensor(ids),
        layout,
        torch.tensor(predictors),
        torch.tensor(labels),
        torch.tensor(given) if given else None,
    )
