"""The losses of classification by their words, and the tricks that fit them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.nn.functional.normalisers import TaylorSoftmax
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.losses.focal import focal, focal_of_logs
from hanformer.train.losses.numerics import sum_rows, widened
from hanformer.train.losses.zlpr import zlpr, zlpr_probabilities
from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks import TRICKS, Wrapper, tricks_named
from hanformer.train.tricks.divergences import (
    Divergence,
    divergence,
    label_divergence,
    symmetric_divergence,
    symmetric_label_divergence,
)
from hanformer.train.tricks.mixup import mixup
from hanformer.train.tricks.r_drop import r_drop
from hanformer.train.tricks.sensitivity import Probe, label_probe, noise_penalty, probe
from hanformer.train.tricks.virtual import vat

LossOf = Callable[[Tensor, Tensor], Loss]
"""Logits [B, K] and labels, int64 [B] or of many labels float [B, K], to a loss. 由 logits 与标签得到损失。"""

FOCUS = 2.0


@dataclass(frozen=True)
class LossKind:
    """A loss by its word.

    按名称登记的分类损失。

    `many`: an example may have any number of labels. `make` of class weights [K] or None, and of label smoothing, which
    `smooths` says whether the loss knows. `probabilities` of logits [..., K]. `balance` makes weights of classes from
    targets, bool [N, K]; None where the loss balances by itself. `tuned`: the threshold is chosen on the validation set
    unless the recipe says otherwise. `link` makes logits of what the classifier gives: with another normaliser than
    softmax they are its log-probabilities, whose softmax is itself, so that tricks and predictions know nothing of it.
    """

    many: bool
    make: Callable[[Tensor | None, float], LossOf]
    probabilities: Callable[[Tensor], Tensor]
    balance: Callable[[Tensor], Tensor] | None = None
    smooths: bool = False
    tuned: bool = False
    link: Callable[[Tensor], Tensor] | None = None

    @property
    def divergence(self) -> Divergence:
        """How far predictions moved from given ones."""
        return label_divergence if self.many else divergence

    @property
    def probe(self) -> Probe:
        """Random directions of the divergence's second derivative."""
        return label_probe if self.many else probe

    @property
    def symmetric_divergence(self) -> Divergence:
        """How far two predictions are apart."""
        return symmetric_label_divergence if self.many else symmetric_divergence


def softmax_focal(logits: Tensor, labels: Tensor, gamma: float = FOCUS) -> Tensor:
    """−(1 − p)^γ log p, p the softmax probability of the label: [B, K] and int64 [B] to [B], in fp32 at least.

    单标签的焦点损失。

    γ = 0 is cross-entropy. Source: Lin et al., arXiv 1708.02002.
    """
    log_p = widened(logits).log_softmax(-1)
    others = log_p.scatter(-1, labels[:, None], -torch.inf)
    chosen = log_p.gather(-1, labels[:, None]).squeeze(-1)
    return focal_of_logs(chosen, others.logsumexp(-1), torch.ones_like(chosen), alpha=1.0, gamma=gamma)


def _cross_entropy(weights: Tensor | None, smoothing: float) -> LossOf:
    def loss_of(logits: Tensor, labels: Tensor) -> Loss:
        each = _of_labels(weights, labels)
        return cross_entropy(logits, labels, label_smoothing=smoothing, weights=each)

    return loss_of


def _focal(weights: Tensor | None, smoothing: float) -> LossOf:
    return lambda logits, labels: sum_rows(softmax_focal(logits, labels), _of_labels(weights, labels))


def _zlpr(weights: Tensor | None, smoothing: float) -> LossOf:
    return lambda logits, labels: sum_rows(zlpr(logits, labels))


def _sigmoid(weights: Tensor | None, smoothing: float) -> LossOf:
    def loss_of(logits: Tensor, labels: Tensor) -> Loss:
        positive = None if weights is None else weights.to(logits.device)
        each = F.binary_cross_entropy_with_logits(
            widened(logits), labels, reduction="none", pos_weight=positive
        )
        return sum_rows(each.sum(-1))

    return loss_of


def _sigmoid_focal(weights: Tensor | None, smoothing: float) -> LossOf:
    return lambda logits, labels: sum_rows(focal(logits, labels, gamma=FOCUS).sum(-1))


def _of_labels(weights: Tensor | None, labels: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(labels.device)[labels]


def even_weights(targets: Tensor) -> Tensor:
    """N / (K n_k), so that all classes weigh the same and examples 1 on the mean: bool [N, K] to float [K].

    单标签的平衡权重：各类总权重相等。

    A class without a row counts as one.
    """
    total, classes = targets.shape
    return (total / (classes * _counts(targets))).float()


def even_sides(targets: Tensor) -> Tensor:
    """(N − n_k) / n_k, what a positive term weighs so that both sides of a class weigh the same: bool [N, K] to [K].

    多标签的平衡权重：每类正负两侧总权重相等。

    A class without a row counts as one.
    """
    counts = _counts(targets)
    return ((len(targets) - counts) / counts).float()


def _counts(targets: Tensor) -> Tensor:
    return targets.double().sum(0).clamp(min=1)


_softmax = partial(torch.softmax, dim=-1)
#: Monotone, so that the highest score is the most probable class.
TAYLOR = TaylorSoftmax(order=4, monotone=True)
LOSSES: dict[str, LossKind] = {
    "cross_entropy": LossKind(False, _cross_entropy, _softmax, even_weights, smooths=True),
    "focal": LossKind(False, _focal, _softmax, even_weights),
    "taylor": LossKind(False, _cross_entropy, _softmax, even_weights, smooths=True, link=TAYLOR.log),
    "zlpr": LossKind(True, _zlpr, zlpr_probabilities),
    "sigmoid": LossKind(True, _sigmoid, torch.sigmoid, even_sides, tuned=True),
    "sigmoid_focal": LossKind(True, _sigmoid_focal, torch.sigmoid, tuned=True),
}


def class_tricks(words: Iterable[str], kind: LossKind, loss_of: LossOf) -> Wrapper:
    """`tricks_named` with the divergences and the mixed loss that fit the task's own loss.

    按名称取训练技巧，散度与 mixup 的损失随任务而定。

    Raises UserError as there, and for `tea_forn`, which is for sequences.
    """
    own: dict[str, Callable[[Objective[Any], float], Objective[Any]]] = {
        "mixup": lambda objective, strength: mixup(objective, strength, loss_of),
        "r_drop": lambda objective, strength: r_drop(objective, strength, kind.symmetric_divergence),
        "vat": lambda objective, strength: vat(objective, strength, differing=kind.divergence),
        "noise_penalty": lambda objective, strength: noise_penalty(objective, strength, of=kind.probe),
    }
    wrappers = [_wrapper(word, own) for word in words]

    def wrap(objective: Objective[Any]) -> Objective[Any]:
        for wrapper in reversed(wrappers):
            objective = wrapper(objective)
        return objective

    return wrap


def _wrapper(word: str, own: dict[str, Callable[[Objective[Any], float], Objective[Any]]]) -> Wrapper:
    common = tricks_named([word])
    name, _, said = word.partition(":")
    check_trick(name, ("tea_forn",))
    if name not in own:
        return common
    strength = float(said) if said else TRICKS[name].strength
    return lambda objective: own[name](objective, strength)


def check_trick(name: str, refused: Sequence[str]) -> None:
    """Raises UserError where the trick has no meaning for a task. 检查技巧是否适用。"""
    if name in refused:
        fitting = ", ".join(word for word in TRICKS if word not in refused)
        raise UserError(f"trick {name}: has no meaning here; expected one of {fitting}")
