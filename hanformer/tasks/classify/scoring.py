"""How good decided labels are: figures, a table of classes, and which are taken for which."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hanformer.tasks.classify.labels import ClassNames
from hanformer.train.losses.multilabel import LabelCounts, count_labels

_WHOLE_MATRIX = 12
_CONFUSIONS = 10


def figures_of(counts: LabelCounts) -> Mapping[str, float]:
    """Accuracy (rows whose labels are all right), micro- and macro-averaged F1, and what micro-F1 is made of.

    准确率、微平均与宏平均 F1、精确率与召回率。

    Of one label a row, micro-F1 equals accuracy. Macro-F1 leaves out classes neither labelled nor predicted.
    """
    return {
        "accuracy": counts.exact_share,
        "micro_f1": counts.micro_f1,
        "macro_f1": counts.macro_f1,
        "precision": counts.precision,
        "recall": counts.recall,
    }


def report(decided: Tensor, targets: Tensor, names: ClassNames, many: bool) -> str:
    """The figures, a row for every class, and of one label the confusions; bool [N, K] twice. 评测报告。"""
    counts = count_labels(decided, targets)
    said = ", ".join(f"{name} {value:.2%}" for name, value in figures_of(counts).items())
    parts = [said, class_table(counts, names)]
    if not many:
        parts.append(confusions(decided, targets, names))
    return "\n\n".join(parts)


def class_table(counts: LabelCounts, names: ClassNames) -> str:
    """Rows, precision, recall and F1 of every class. 逐类指标。"""
    lines = [f"{'rows':>7} {'precision':>9} {'recall':>7} {'f1':>7}  class"]
    columns = (counts.found, counts.invented, counts.missed)
    for name, found, invented, missed in zip(
        names.names, *(column.tolist() for column in columns), strict=True
    ):
        precision = _share(found, found + invented)
        recall = _share(found, found + missed)
        f1 = _share(2 * found, 2 * found + invented + missed)
        lines.append(f"{found + missed:7} {precision:>9} {recall:>7} {f1:>7}  {name}")
    return "\n".join(lines)


def confusions(decided: Tensor, targets: Tensor, names: ClassNames) -> str:
    """Of one label: the whole matrix where it is small, else the most frequent mistakes. 混淆矩阵或常见误判。"""
    matrix = targets.long().T @ decided.long()
    return _matrix(matrix, names) if len(names) <= _WHOLE_MATRIX else _mistakes(matrix, names)


def _matrix(matrix: Tensor, names: ClassNames) -> str:
    lines = ["true class by row, predicted by column, in the order of the table above:"]
    for name, row in zip(names.names, matrix.tolist(), strict=True):
        lines.append("".join(f"{count:7}" for count in row) + f"  {name}")
    return "\n".join(lines)


def _mistakes(matrix: Tensor, names: ClassNames) -> str:
    wrong = matrix.clone().fill_diagonal_(0)
    order = torch.argsort(wrong.flatten(), descending=True, stable=True)[:_CONFUSIONS].tolist()
    lines = ["the most frequent mistakes (true, predicted):"]
    for place in order:
        true, said = divmod(place, len(names))
        if wrong[true, said]:
            lines.append(f"{int(wrong[true, said]):7}  {names.names[true]}, {names.names[said]}")
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "-"
