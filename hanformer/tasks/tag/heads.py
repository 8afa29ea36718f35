"""Heads of tagging: chains of labels (softmax, CRF, MEMM), and scores of spans (GlobalPointer)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from hanformer.nn.functional.packing import Layout
from hanformer.nn.layers.global_pointer import EfficientGlobalPointer, GlobalPointer, find_spans, span_ids
from hanformer.tasks.tag.batches import TagBatch
from hanformer.tasks.tag.cutting import Window
from hanformer.tasks.tag.labels import LabelSet, TokenSpan
from hanformer.train.losses.chain import Transitions, viterbi
from hanformer.train.losses.crf import crf
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.losses.memm import memm, memm_steps
from hanformer.train.losses.numerics import sum_rows, widened
from hanformer.train.losses.zlpr import zlpr_sparse
from hanformer.train.objective import Loss

ScoredText = Sequence[tuple[Window, Tensor]]
"""The windows of a text, each with its scores. 一条文本的各窗口及其打分。"""


class TagHead(nn.Module, ABC):
    """From hidden states to scores, from scores to a loss, and back to spans.

    标注输出层：打分、损失与解码。
    """

    @abstractmethod
    def forward(self, hidden: Tensor, batch: TagBatch) -> Tensor:
        """Hidden states [N, C] of a packed batch to scores."""

    @abstractmethod
    def loss(self, scores: Tensor, batch: TagBatch) -> Loss:
        """The loss of the scores."""

    @abstractmethod
    def split(self, scores: Tensor, batch: TagBatch) -> list[Tensor]:
        """The scores of each window, by itself."""

    @abstractmethod
    def spans(self, texts: Sequence[ScoredText]) -> list[list[TokenSpan]]:
        """The spans that the scores of whole texts stand for."""


class ChainHead(TagHead):
    """A softmax over labels at every token; the best path of legal labels is what is found.

    逐词元 softmax；解码时取合法标签路径中得分最高者。

    Scores are emissions [M, K] of owned tokens; the windows of a text are joined before decoding, so that a path runs
    through all of it. `weights` [K] weigh tokens by their label. Kinds override `loss` and `chain`.
    """

    legal: Tensor
    weights: Tensor | None

    def __init__(self, size: int, labels: LabelSet, weights: Tensor | None = None) -> None:
        super().__init__()
        self.labels = labels
        self.projection = nn.Linear(size, len(labels))
        self.register_buffer("legal", labels.legal, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, hidden: Tensor, batch: TagBatch) -> Tensor:
        """[N, C] to emissions [M, K] of owned tokens."""
        emissions: Tensor = self.projection(batch.owned.of(hidden))
        return emissions

    def loss(self, scores: Tensor, batch: TagBatch) -> Loss:
        """Cross-entropy, by tokens."""
        found = cross_entropy(scores, batch.labels, weights=self._weights_of(batch))
        return Loss(found.total, found.count, {"logits": scores})

    def chain(self, emissions: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Nodes [N, K] and edges [K, K] (or of each step) for `viterbi`."""
        return emissions, torch.zeros_like(self.legal)

    def split(self, scores: Tensor, batch: TagBatch) -> list[Tensor]:
        """Emissions of each window."""
        return list(scores.split(batch.owned.layout.lengths))

    def spans(self, texts: Sequence[ScoredText]) -> list[list[TokenSpan]]:
        """The spans of the best path of each text."""
        joined = [torch.cat([scores for _, scores in text]) for text in texts]
        layout = Layout.of([len(scores) for scores in joined], device=joined[0].device)
        nodes, edges = self.chain(torch.cat(joined), layout)
        path = viterbi(
            nodes,
            edges + self.legal,
            layout,
            starts=self.labels.starts,
            ends=self.labels.ends,
        )
        rows = path.cpu().split(layout.lengths)
        return [self.labels.decode(row.tolist()) for row in rows]

    def _weights_of(self, batch: TagBatch) -> Tensor | None:
        return None if self.weights is None else self.weights[batch.labels]


class CrfHead(ChainHead):
    """A linear-chain CRF, whose transitions learn `rate` times as fast as the rest. 条件随机场。"""

    def __init__(self, size: int, labels: LabelSet, rate: float, weights: Tensor | None = None) -> None:
        super().__init__(size, labels, weights)
        self.transitions = Transitions(len(labels), rate)

    def loss(self, scores: Tensor, batch: TagBatch) -> Loss:
        """−log p of whole paths, counted by tokens."""
        total = crf(scores, batch.labels, self.transitions.matrix, batch.owned.layout).sum()
        return Loss(total, len(batch.labels), {"logits": scores})

    def chain(self, emissions: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """The emissions and the learned transitions."""
        return emissions, self.transitions.matrix


class MemmHead(CrfHead):
    """A MEMM of both directions, with transitions as the CRF has them. 双向最大熵马尔可夫模型。"""

    def loss(self, scores: Tensor, batch: TagBatch) -> Loss:
        """The mean of both directions, by tokens."""
        losses = memm(scores, batch.labels, self.transitions, batch.owned.layout)
        found = sum_rows(losses, self._weights_of(batch))
        return Loss(found.total, found.count, {"logits": scores})

    def chain(self, emissions: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Log-probabilities on nodes and on the steps of each row."""
        return memm_steps(emissions, self.transitions.matrix, layout)


class PointerHead(TagHead):
    """A score for every span that begins at an owned token; those above 0 are found, nested ones too.

    全局指针：得分大于零的片段即为实体，可嵌套。

    `pointer` gives [rows, kinds, T, T]; `weights` [kinds] weigh the loss by kind.
    """

    weights: Tensor | None

    def __init__(self, pointer: nn.Module, weights: Tensor | None = None) -> None:
        super().__init__()
        self.pointer = pointer
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, hidden: Tensor, batch: TagBatch) -> Tensor:
        """[N, C] to [rows, kinds, T, T], −inf where no owned token begins."""
        scores: Tensor = self.pointer(batch.inner.of(hidden), batch.inner.layout)
        return scores.masked_fill(~batch.begins[:, None, :, None], -torch.inf)

    def loss(self, scores: Tensor, batch: TagBatch) -> Loss:
        """ZLPR of all spans of a kind, by windows and kinds."""
        losses = zlpr_sparse(scores.flatten(2), span_ids(batch.spans, scores))
        return sum_rows(losses, None if self.weights is None else self.weights.expand_as(losses))

    def split(self, scores: Tensor, batch: TagBatch) -> list[Tensor]:
        """Each window's [kinds, T, T], its own length."""
        return [
            row[:, :length, :length] for row, length in zip(scores, batch.inner.layout.lengths, strict=True)
        ]

    def spans(self, texts: Sequence[ScoredText]) -> list[list[TokenSpan]]:
        """All spans above 0 of each text, in their order."""
        return [sorted(_above_zero(text), key=lambda span: span[1:] + span[:1]) for text in texts]


class WordPointerHead(PointerHead):
    """The same for words, which cover the text: the words of the highest sum are found. 用于分词：取总分最高的切分。"""

    def spans(self, texts: Sequence[ScoredText]) -> list[list[TokenSpan]]:
        """The best segmentation of each text."""
        return [best_cover(text) for text in texts]


def _above_zero(text: ScoredText) -> list[TokenSpan]:
    return [
        (kind, start + window.begin, end + window.begin + 1)
        for window, scores in text
        for kind, start, end in find_spans(scores[None])[0]
    ]


def best_cover(text: ScoredText) -> list[TokenSpan]:
    """The spans that cover a text without a gap and whose scores have the highest sum.

    覆盖全文且得分之和最大的切分（动态规划）。

    best(j) = max over i < j of best(i) + s(i, j − 1), where the window that owns i gives s. Shapes: scores [1, T, T].
    """
    total = text[-1][0].owned[1]
    best = np.full(total + 1, -np.inf)
    origin = np.zeros(total + 1, dtype=np.int64)
    best[0] = 0.0
    for window, scores in text:
        values = widened(scores[0]).cpu().numpy()
        for start in range(*window.owned):
            row = best[start] + values[start - window.begin, start - window.begin :]
            reached = best[start + 1 : start + 1 + len(row)]
            better = row > reached
            reached[better] = row[better]
            origin[start + 1 : start + 1 + len(row)][better] = start
    found: list[TokenSpan] = []
    end = total
    while end > 0:
        found.append((0, int(origin[end]), end))
        end = int(origin[end])
    return found[::-1]


POINTERS: Final[dict[str, Callable[[int, int, int], nn.Module]]] = {
    "global_pointer": GlobalPointer,
    "efficient_global_pointer": EfficientGlobalPointer,
}
CHAINS: Final = ("softmax", "crf", "memm")
HEADS: Final = (*CHAINS, *POINTERS)


def head_named(
    name: str, size: int, labels: LabelSet, *, rate: float, head_size: int, weights: Tensor | None = None
) -> TagHead:
    """A new head: `rate` is that of transitions, `head_size` that of pointers. 按名称建立输出层。"""
    if name in POINTERS:
        pointer = POINTERS[name](size, len(labels.kinds), head_size)
        return (PointerHead if labels.outside else WordPointerHead)(pointer, weights)
    if name == "softmax":
        return ChainHead(size, labels, weights)
    return (CrfHead if name == "crf" else MemmHead)(size, labels, rate, weights)
