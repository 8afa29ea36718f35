"""Adversarial training: the loss where it is worst nearby, the direction found by one gradient or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hanformer.errors import UserError
from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_above_zero, check_at_least, check_strength
from hanformer.train.tricks.rows import Rows, unit, within
from hanformer.train.tricks.seam import (
    added,
    check_whole,
    embeddings_changed,
    gradients_of,
    look_ups,
    token_tables,
)

Batch = TypeVar("Batch")

Direction = Callable[[Tensor, Rows], Tensor]
"""The gradient by embedded tokens [..., E] and their rows, to where they are moved: `unit`, `signs`, `unchanged`.

由梯度得到扰动方向。
"""
#: What is added to an embedded token so far, the gradient there, and the rows, to what is added next.
Move = Callable[[Tensor, Tensor, Rows], Tensor]


def fgm(
    objective: Objective[Batch],
    strength: float,
    *,
    accumulate_clean: bool = False,
    direction: Direction = unit,
) -> Objective[Batch]:
    """FGM: the objective at e + strength · g / ‖g‖, e the embedded tokens and g its gradient there.

    FGM 对抗训练：在词向量上沿梯度方向扰动。

    d = strength · g / ‖g‖ is a constant, with ‖g‖ over all tokens of one example: batches of any size, and
    accumulated ones, mean the same. Total and outputs are those at e + d; with `accumulate_clean` the total is
    that at e added to it, which costs one more backward. `direction` is `unit`; `signs` gives FGSM, `unchanged`
    strength · g. The two passes have dropout of their own.
    bert4keras moves the table by one norm for the whole batch: `fgm_of_table`; its strength ε, at B examples of
    distinct tokens, is about ε / √B here. Strength 0 is the objective itself.
    Raises UserError for a strength that is negative or not finite, and for models without a token table.
    Source: Miyato et al., arXiv 1605.07725; kexue.fm/archives/7234.
    """
    check_strength("fgm", strength)

    def move(shift: Tensor, gradient: Tensor, rows: Rows) -> Tensor:
        return strength * direction(gradient, rows)

    return _attacked(objective, 1, move, accumulate_clean) if strength else objective


def pgd(
    objective: Objective[Batch],
    strength: float,
    *,
    steps: int = 3,
    step_size: float | None = None,
    accumulate_clean: bool = False,
) -> Objective[Batch]:
    """PGD: the objective at e + d, d found by `steps` steps along the gradient within a ball of radius `strength`.

    PGD 对抗训练：在半径内多步上升。

    d ← project(d + step_size · g / ‖g‖), from 0, norms over all tokens of one example; step_size is by default
    0.3 · strength. One step as long as the radius is `fgm`, whose words on dropout, totals and strength hold here.
    Raises UserError for numbers out of range, and for models without a token table.
    Source: Madry et al., arXiv 1706.06083; kexue.fm/archives/7234.
    """
    check_strength("pgd", strength)
    check_at_least("pgd: steps", steps, 1)
    length = 0.3 * strength if step_size is None else step_size
    if not strength:
        return objective
    check_above_zero("pgd: step_size", length)

    def move(shift: Tensor, gradient: Tensor, rows: Rows) -> Tensor:
        return within(shift + length * unit(gradient, rows), rows, strength)

    return _attacked(objective, steps, move, accumulate_clean)


def _attacked(objective: Objective[Batch], steps: int, move: Move, keep_clean: bool) -> Objective[Batch]:
    def attacked(model: nn.Module, batch: Batch) -> Loss:
        clean, found = look_ups(objective, model, batch)
        gradients = gradients_of(clean, found, keep=keep_clean)
        shifts = [torch.zeros_like(gradient) for gradient in gradients]
        for step in range(steps):
            if step:
                loss, found = look_ups(objective, model, batch, shifts)
                gradients = gradients_of(loss, found)
            rows = [look_up.rows for look_up in found]
            shifts = [move(*given) for given in zip(shifts, gradients, rows, strict=True)]
        with embeddings_changed(model, added(shifts)):
            loss = objective(model, batch)
        return _plus(loss, clean) if keep_clean else loss

    return attacked


def fgm_of_table(
    objective: Objective[Batch], strength: float, *, accumulate_clean: bool = False
) -> Objective[Batch]:
    """bert4keras' FGM: the objective with E + strength · G / (‖G‖ + 1e-8) for the token table E, G its gradient.

    bert4keras 形式的 FGM：整体扰动词嵌入表。

    The norm is that of the whole table. Unlike `fgm` it depends on how many examples a batch has, gives every
    occurrence of a token the same shift, and moves a tied output table too. The perturbed table stands beside the true
    one during the pass alone; the gradient is then the true one's. Strength 0 is the objective itself.
    Raises UserError as `fgm` does, and for frozen tables or several of them.
    Source: kexue.fm/archives/7234; bert4keras.
    """
    check_strength("fgm_of_table", strength)

    def attacked(model: nn.Module, batch: Batch) -> Loss:
        check_whole(model)
        name, table = _only_table(model)
        with torch.enable_grad():
            clean = objective(model, batch)
            (gradient,) = torch.autograd.grad(clean.total, table, retain_graph=accumulate_clean)
        moved = table + strength * gradient / (torch.linalg.vector_norm(gradient) + 1e-8)
        loss: Loss = functional_call(_Bound(objective, model), {f"model.{name}": moved}, (batch,))
        return _plus(loss, clean) if accumulate_clean else loss

    return attacked if strength else objective


class _Bound(nn.Module):
    """An objective and its model, so that torch can call them with one weight replaced."""

    def __init__(self, objective: Objective[Any], model: nn.Module) -> None:
        super().__init__()
        self.objective, self.model = objective, model

    def forward(self, batch: Any) -> Loss:
        return self.objective(self.model, batch)


def _only_table(model: nn.Module) -> tuple[str, Tensor]:
    tables = [table.weight for table in token_tables(model)]
    if len(tables) != 1 or not tables[0].requires_grad:
        raise UserError("fgm_of_table: expected one token table that learns; use fgm for other models")
    return next((name, weight) for name, weight in model.named_parameters() if weight is tables[0])


def _plus(loss: Loss, clean: Loss) -> Loss:
    return Loss(loss.total + clean.total, loss.count, loss.outputs)
