"""Counting right and wrong labels: F1 over all labels, over classes, and the thresholds that raise it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.errors import UserError


@dataclass(frozen=True, eq=False)
class LabelCounts:
    """How often each class was found, invented and missed, and how many rows were right as a whole.

    每类的命中、误报、漏报数，以及完全正确的行数；可相加。

    `found`, `invented` and `missed` are int64 [K]; counts of several batches add with +.
    """

    found: Tensor
    invented: Tensor
    missed: Tensor
    exact: int
    rows: int

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.found + other.found,
            self.invented + other.invented,
            self.missed + other.missed,
            self.exact + other.exact,
            self.rows + other.rows,
        )

    @property
    def f1_of_class(self) -> Tensor:
        """2 found / (2 found + invented + missed): float64 [K], NaN for a class neither labelled nor predicted."""
        return 2 * self.found.double() / (2 * self.found + self.invented + self.missed)

    @property
    def precision(self) -> float:
        """Of the predicted labels, the share that is right; 0 where nothing was predicted. 精确率。"""
        return _share(self.found, self.invented)

    @property
    def recall(self) -> float:
        """Of the labels, the share that was predicted; 0 where there are none. 召回率。"""
        return _share(self.found, self.missed)

    @property
    def micro_f1(self) -> float:
        """F1 over all labels together; 0 where there are none. 微平均 F1。"""
        twice = 2 * int(self.found.sum())
        wrong = int(self.invented.sum()) + int(self.missed.sum())
        return twice / (twice + wrong) if twice else 0.0

    @property
    def macro_f1(self) -> float:
        """The mean of `f1_of_class` over classes that were labelled or predicted; 0 without any. 宏平均 F1。"""
        mean = self.f1_of_class.nanmean()
        return 0.0 if mean.isnan() else float(mean)

    @property
    def exact_share(self) -> float:
        """The share of rows whose labels are all right and complete; 0 without rows. 完全匹配率。"""
        return self.exact / self.rows if self.rows else 0.0


def _share(found: Tensor, wrong: Tensor) -> float:
    right = int(found.sum())
    return right / (right + int(wrong.sum())) if right else 0.0


def count_labels(predicted: Tensor, targets: Tensor) -> LabelCounts:
    """Compares predicted with true labels, both bool or 0 and 1, [..., K].

    统计预测标签与真实标签的异同。

    Raises UserError for shapes that differ.
    """
    if predicted.shape != targets.shape:
        raise UserError(
            f"count_labels: expected the same shape twice, got {list(predicted.shape)} and {list(targets.shape)}"
        )
    said, true = (values.bool().reshape(-1, values.shape[-1]) for values in (predicted, targets))
    return LabelCounts(
        (said & true).sum(0),
        (said & ~true).sum(0),
        (~said & true).sum(0),
        int((said == true).all(-1).sum()),
        len(said),
    )


def best_thresholds(scores: Tensor, targets: Tensor) -> Tensor:
    """For each class the threshold t at which "score > t" has the highest F1: [K].

    为每一类选取使 F1 最高的阈值；应在验证集上选。

    Halfway between two neighbouring scores. ZLPR's own 0 serves the loss and not F1; choose on other data than you
    report. A class without a label gets its highest score: nothing is predicted. Shapes: [M, K] twice.
    Raises UserError for shapes that differ, or without rows.
    """
    if scores.shape != targets.shape or scores.dim() != 2 or not len(scores):
        raise UserError(
            f"best_thresholds: expected scores and targets [rows, classes], got {list(scores.shape)} "
            f"and {list(targets.shape)}"
        )
    ordered, order = scores.double().sort(0, descending=True)
    true = targets.bool().gather(0, order)
    found = true.cumsum(0)
    said = torch.arange(1, len(scores) + 1, device=scores.device)[:, None]
    f1 = 2 * found.double() / (said + true.sum(0))
    following = torch.cat([ordered[1:], ordered[-1:] - 2])
    f1 = f1.masked_fill(ordered == following, -1.0)
    best, place = f1.max(0)
    between = (ordered + following) / 2
    chosen = between.gather(0, place[None])[0]
    return torch.where(best > 0, chosen, ordered[0]).to(scores.dtype)
