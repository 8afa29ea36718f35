"""R-Drop: two passes with different dropout should say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_strength
from hanformer.train.tricks.divergences import Divergence, symmetric_divergence
from hanformer.train.tricks.outputs import output

Batch = TypeVar("Batch")


def r_drop(
    objective: Objective[Batch], strength: float, divergence: Divergence = symmetric_divergence
) -> Objective[Batch]:
    """The objective over two passes of the same batch, plus a penalty where their distributions differ.

    R-Drop：同一批次两次不同的 dropout，惩罚两个预测分布之间的差异。

    total = (total_1 + total_2) / 2 + strength / 4 · Σ [KL(p_1 ‖ p_2) + KL(p_2 ‖ p_1)], the sum over the rows of
    outputs["logits"]: [M, V] of tokens or [B, K] of classes. Strength 0 is the objective itself: one pass. Meant
    for objectives whose count is the number of these rows. Dropout must draw from torch. Labels that do not
    exclude each other want the divergence `symmetric_label_divergence`. The official code halves the sum where
    this quarters it: its α is strength / 2.
    Raises UserError for a strength that is negative or not finite, and an objective without these outputs.
    Source: Liang et al., arXiv 2106.14448; kexue.fm/archives/8496.
    """
    check_strength("r_drop", strength)

    def doubled(model: nn.Module, batch: Batch) -> Loss:
        first, second = objective(model, batch), objective(model, batch)
        difference = divergence(output(first, "logits", "r_drop"), output(second, "logits", "r_drop"))
        total = (first.total + second.total) / 2 + strength / 4 * difference
        return Loss(total, first.count, first.outputs)

    return doubled if strength else objective


def agreement(
    logits_of: Callable[[nn.Module, Batch], Tensor], divergence: Divergence = symmetric_divergence
) -> Objective[Batch]:
    """R-Drop where there are no labels: Σ KL(p_1 ‖ p_2) + KL(p_2 ‖ p_1) alone, counted by rows of logits [M, V].

    无标签数据上的 R-Drop。

    `logits_of` a model and a batch; for `with_unlabelled`. Source: kexue.fm/archives/8496.
    """

    def doubled(model: nn.Module, batch: Batch) -> Loss:
        first, second = logits_of(model, batch), logits_of(model, batch)
        return Loss(divergence(first, second), len(first), {"logits": first})

    return doubled
