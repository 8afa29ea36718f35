"""What small noise on embedded tokens costs in expectation, without drawing it: a penalty on what it would change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.nn.functional.attend import differentiable_twice
from hanformer.train.losses.numerics import widened
from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_strength
from hanformer.train.tricks.outputs import output
from hanformer.train.tricks.seam import gradients_of, look_ups
from hanformer.train.tricks.virtual import LogitsOf

Batch = TypeVar("Batch")

Probe = Callable[[Tensor], Tensor]
"""Logits [M, V] to random directions w [M, V] with E[w wᵀ] = the Hessian of a divergence. 随机探测方向。"""


def probe(logits: Tensor) -> Tensor:
    """w = √p ⊙ η − p (√p · η), η of ±1: E[w wᵀ] = diag p − p pᵀ, the Hessian of `divergence` by logits [M, V].

    KL 散度在 logits 上的海森矩阵的随机平方根。

    w · s is Σ_i √p_i η_i log p_i up to a constant, whose gradient Hutchinson's estimator squares.
    """
    p = widened(logits).softmax(-1)
    return direction(p, _signs(p))


def label_probe(scores: Tensor) -> Tensor:
    """The same for `label_divergence` of scores [M, K]: twice diag q − q qᵀ, q_i = a_i / (1 + Σ a), a = 1 / (2 cosh s).

    多标签散度的随机探测方向。

    The 1 stands for the threshold, a class of its own whose score is always 0.
    """
    sizes = widened(scores).abs()
    logs = -sizes - F.softplus(-2 * sizes)
    shares = F.pad(logs, (1, 0)).softmax(-1)
    return 2**0.5 * direction(shares, _signs(shares))[..., 1:]


def direction(p: Tensor, signs: Tensor) -> Tensor:
    """√p ⊙ η − p (√p · η) of probabilities p [..., V] and signs η [..., V]. 由概率与符号得到探测方向。"""
    roots = p.sqrt() * signs
    return roots - p * roots.sum(-1, keepdim=True)


def _signs(p: Tensor) -> Tensor:
    return torch.randint_like(p, 2) * 2 - 1


def noise_penalty(objective: Objective[Batch], strength: float, *, of: Probe = probe) -> Objective[Batch]:
    """total + strength / 2 · Σ_i p_i ‖∂ log p_i / ∂ e‖²: what noise of variance `strength` on e costs, by Taylor.

    噪声惩罚：给词向量加方差为 strength 的高斯噪声时，预测分布变化（KL）的期望，无需标签。

    To first order in the variance it is E KL(p(e) ‖ p(e + √strength · n)), n ~ N(0, 1), summed over the rows of
    outputs["logits"]. The sum over classes takes one more backward pass, whatever their number: Hutchinson's
    estimator, Σ_i λ_i ‖∇ f_i‖² = E ‖∇ Σ_i √λ_i η_i f_i‖² with signs η drawn anew. Other differences from
    `gradient_penalty`: it asks nothing of the labels, and is zero where the prediction does not move.
    Strength 0 is the objective itself.
    Raises UserError for a strength that is negative or not finite, for models without a token table, and for an
    objective without these outputs. Source: kexue.fm/archives/7466.
    """
    check_strength("noise_penalty", strength)

    def penalised(model: nn.Module, batch: Batch) -> Loss:
        passed: list[Loss] = []

        def probed(model: nn.Module, batch: Batch) -> Loss:
            passed.append(objective(model, batch))
            return _probed(output(passed[-1], "logits", "noise_penalty"), of)

        squares = _squares(probed, model, batch)
        (loss,) = passed
        return Loss(loss.total + strength / 2 * squares, loss.count, loss.outputs)

    return penalised if strength else objective


def sensitivity(logits_of: LogitsOf[Batch], *, of: Probe = probe) -> Objective[Batch]:
    """The penalty alone, at variance 1: an objective for batches without labels, counted by rows of logits.

    无标签的噪声惩罚目标，用于 with_unlabelled。
    """

    def sensitive(model: nn.Module, batch: Batch) -> Loss:
        rows: list[int] = []

        def probed(model: nn.Module, batch: Batch) -> Loss:
            logits = logits_of(model, batch)
            rows.append(len(logits))
            return _probed(logits, of)

        return Loss(_squares(probed, model, batch) / 2, rows[0])

    return sensitive


def _probed(logits: Tensor, of: Probe) -> Loss:
    """Σ w · s, the directions being constants; scores that cannot be (−inf) take no part."""
    directions = of(logits.detach())
    there = logits > -torch.inf
    return Loss((directions * widened(logits.masked_fill(~there, 0.0))).sum(), len(logits))


def _squares(probed: Objective[Batch], model: nn.Module, batch: Batch) -> Tensor:
    with differentiable_twice():
        value, found = look_ups(probed, model, batch)
        gradients = gradients_of(value, found, again=True)
    return torch.stack([widened(gradient).square().sum() for gradient in gradients]).sum()
