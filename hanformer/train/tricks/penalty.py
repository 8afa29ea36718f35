"""The gradient penalty: what adversarial training is to first order, by a derivative of a derivative."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from hanformer.nn.functional.attend import differentiable_twice
from hanformer.train.losses.numerics import widened
from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_strength
from hanformer.train.tricks.seam import gradients_of, look_ups

Batch = TypeVar("Batch")


def gradient_penalty(objective: Objective[Batch], strength: float) -> Objective[Batch]:
    """total + strength / 2 · Σ ‖∂ total / ∂ e‖², over the embedded tokens e, each occurrence by itself.

    梯度惩罚：损失对词向量梯度的平方和，逐次出现计算。

    To first order it is `fgm` without the norm, and like it the same for batches of any size. bert4keras penalises
    the gradient of the mean instead: its ε is strength = ε / count here, 1/32 at its ε = 1 and 32 examples.
    The penalty is summed in fp32 and goes backward twice, so attention runs on a kernel that can. In fp16 small
    gradients vanish before they are squared: choose bf16. Strength 0 is the objective itself.
    Raises UserError for a strength that is negative or not finite, and for models without a token table.
    Source: kexue.fm/archives/7234 and 7259.
    """
    check_strength("gradient_penalty", strength)

    def penalised(model: nn.Module, batch: Batch) -> Loss:
        with differentiable_twice():
            loss, found = look_ups(objective, model, batch)
            gradients = gradients_of(loss, found, again=True)
        squares = torch.stack([widened(gradient).square().sum() for gradient in gradients]).sum()
        return Loss(loss.total + strength / 2 * squares, loss.count, loss.outputs)

    return penalised if strength else objective
