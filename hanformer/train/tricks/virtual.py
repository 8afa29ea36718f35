"""Virtual adversarial training: predictions should not change nearby, labels or no labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_above_zero, check_at_least, check_strength
from hanformer.train.tricks.divergences import Divergence, divergence
from hanformer.train.tricks.outputs import output
from hanformer.train.tricks.rows import unit
from hanformer.train.tricks.seam import (
    added,
    embeddings_changed,
    gradients_of,
    look_ups,
    without_dropout,
)

Batch = TypeVar("Batch")

LogitsOf = Callable[[nn.Module, Batch], Tensor]
"""Logits [M, V] of a model on a batch. 模型在批次上的 logits。"""

RADIUS, FINITE_STEP = 0.5, 0.1


def vat(
    objective: Objective[Batch],
    strength: float,
    *,
    radius: float = RADIUS,
    finite_step: float = FINITE_STEP,
    iterations: int = 1,
    differing: Divergence = divergence,
) -> Objective[Batch]:
    """total + strength · Σ KL(f(e) ‖ f(e + radius · u)), u the unit direction in which the prediction f changes most.

    虚拟对抗训练：惩罚预测分布在最敏感方向上的变化。

    The sum is over rows of outputs["logits"], as `instability` counts it, on the same batch as the labels.
    Strength 0 is the objective itself.
    Raises UserError for numbers out of range, and for an objective without these outputs.
    Source: Miyato et al., arXiv 1704.03976; kexue.fm/archives/7466.
    """
    check_strength("vat", strength)

    def logits_of(model: nn.Module, batch: Batch) -> Tensor:
        return output(objective(model, batch), "logits", "vat")

    penalty = instability(
        logits_of, radius=radius, finite_step=finite_step, iterations=iterations, differing=differing
    )

    def smooth(model: nn.Module, batch: Batch) -> Loss:
        loss = objective(model, batch)
        return Loss(loss.total + strength * penalty(model, batch).total, loss.count, loss.outputs)

    return smooth if strength else objective


def instability(
    logits_of: LogitsOf[Batch],
    *,
    radius: float = RADIUS,
    finite_step: float = FINITE_STEP,
    iterations: int = 1,
    differing: Divergence = divergence,
) -> Objective[Batch]:
    """Σ KL(f(e) ‖ f(e + radius · u)) alone: an objective for batches without labels, counted by rows of logits.

    无标签的虚拟对抗目标。

    u starts at random; each of the `iterations` replaces it by the unit gradient of the divergence at finite_step
    · u, a step of power iteration with the Hessian; none leaves Gaussian noise. Norms are over all tokens of one
    example. f(e) and the search are computed without dropout and are constants; f(e + radius · u) has dropout.
    In bf16 a small `finite_step` is lost in rounding. bert4keras normalises over the whole table (radius 1,
    step 10). The defaults are ours. `differing` is `label_divergence` where labels do not exclude each other.
    Raises UserError for numbers out of range, and for models without a token table.
    """
    check_above_zero("vat: radius", radius)
    check_above_zero("vat: finite_step", finite_step)
    check_at_least("vat: iterations", iterations, 0)

    def unstable(model: nn.Module, batch: Batch) -> Loss:
        with without_dropout(model):
            target, directions = _start(logits_of, model, batch)
            for _ in range(iterations):
                shifts = [finite_step * u for u in directions]
                directions = _turned(_differing(logits_of, target, differing), model, batch, shifts)
        with embeddings_changed(model, added([radius * u for u in directions])):
            return _differing(logits_of, target, differing)(model, batch)

    return unstable


def _start(logits_of: LogitsOf[Batch], model: nn.Module, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """The target logits, and a random unit direction for every look-up."""

    def plain(model: nn.Module, batch: Batch) -> Loss:
        logits = logits_of(model, batch)
        return Loss(logits.detach().sum(), len(logits), {"logits": logits.detach()})

    # With a graph, dropped at once: torch before pull request 165068 keeps what autocast cast without one, and later
    # passes then lose the gradients of weights.
    loss, found = look_ups(plain, model, batch)
    directions = [unit(torch.randn_like(look_up.embedded).detach(), look_up.rows) for look_up in found]
    return loss.outputs["logits"], directions


def _differing(logits_of: LogitsOf[Batch], target: Tensor, differing: Divergence) -> Objective[Batch]:
    """The distance of a pass from the target, which is a constant."""

    def objective(model: nn.Module, batch: Batch) -> Loss:
        logits = logits_of(model, batch)
        return Loss(differing(target, logits), len(logits), {"logits": logits})

    return objective


def _turned(
    objective: Objective[Batch], model: nn.Module, batch: Batch, shifts: list[Tensor]
) -> list[Tensor]:
    """The unit gradients of the objective at the shifts."""
    loss, found = look_ups(objective, model, batch, shifts)
    return [unit(g, look_up.rows) for g, look_up in zip(gradients_of(loss, found), found, strict=True)]
