"""Mixup: between two examples the answer should lie between theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_strength
from hanformer.train.tricks.outputs import output
from hanformer.train.tricks.rows import Rows
from hanformer.train.tricks.seam import embeddings_changed

Batch = TypeVar("Batch")

LossOf = Callable[[Tensor, Tensor], Loss]
"""Logits and labels, one of each example, to a loss. 由 logits 与标签得到损失。"""


def mixup(objective: Objective[Batch], strength: float, loss_of: LossOf = cross_entropy) -> Objective[Batch]:
    """Every example's embedded tokens mixed with another's, e_i ← λ e_i + (1 − λ) e_j, and the loss likewise.

    在词向量上做 mixup。

    λ ~ Beta(strength, strength), one draw a batch, and j another order of the examples. Token t meets token t;
    an example keeps its own length, and where the other is shorter it meets zeros. total = λ l(logits, y_i) +
    (1 − λ) l(logits, y_j), with outputs["logits"] [B, K] and outputs["labels"] [B] of the objective, whose own
    total is not used. For objectives with one answer an example, one look-up a pass. Models in eval mode, and
    strength 0, have the objective itself.
    Raises UserError for a strength that is negative or not finite, and for objectives without these outputs.
    Source: Zhang et al., arXiv 1710.09412; Guo et al., arXiv 1905.08941 (word mixup).
    """
    check_strength("mixup", strength)

    def mixing(model: nn.Module, mix: _Mix) -> AbstractContextManager[None]:
        return embeddings_changed(model, mix.tokens)

    return _mixed(objective, strength, loss_of, mixing) if strength else objective


def mixup_at(
    objective: Objective[Batch],
    strength: float,
    layer_of: Callable[[nn.Module], nn.Module],
    loss_of: LossOf = cross_entropy,
) -> Objective[Batch]:
    """`mixup` of what a layer gives, one vector an example: the pooled vectors before a classifier.

    在某一层的输出（如分类前的池化向量）上做 mixup。

    `layer_of` the model is that layer; its output is [B, ...]. In all else like `mixup`.
    Source: Zhang et al., arXiv 1710.09412; Guo et al., arXiv 1905.08941 (sentence mixup).
    """
    check_strength("mixup_at", strength)

    @contextmanager
    def mixing(model: nn.Module, mix: _Mix) -> Iterator[None]:
        with layer_of(model).register_forward_hook(mix.layer):
            yield

    return _mixed(objective, strength, loss_of, mixing) if strength else objective


@dataclass(eq=False)
class _Mix:
    """One draw: the share of an example's own, and the order of the others, drawn when their number is known."""

    share: float
    order: Tensor | None = field(default=None)

    def others(self, count: int, device: torch.device) -> Tensor:
        if self.order is not None:
            raise UserError("mixup: expected an objective that passes its examples through the model once")
        self.order = torch.randperm(count).to(device)
        return self.order

    def tokens(self, embedded: Tensor, rows: Rows) -> Tensor:
        partner = self.others(rows.count, embedded.device)
        return self.blend(embedded, _aligned(embedded, rows, partner))

    def layer(self, module: nn.Module, given: Any, vectors: Tensor) -> Tensor:
        return self.blend(vectors, vectors[self.others(len(vectors), vectors.device)])

    def blend(self, own: Tensor, other: Tensor) -> Tensor:
        return self.share * own + (1 - self.share) * other


def _aligned(embedded: Tensor, rows: Rows, partner: Tensor) -> Tensor:
    """What the partners' tokens are at the same places of their rows; zeros beyond their ends."""
    flat, row = embedded.flatten(0, -2), rows.of_token.flatten()
    place = torch.arange(len(row), device=row.device) - rows.offsets[row]
    lengths = torch.tensor(rows.lengths, device=row.device)
    there = place < lengths[partner[row]]
    index = torch.where(there, rows.offsets[partner[row]] + place, 0)
    return (flat[index] * there[:, None]).view_as(embedded)


def _mixed(
    objective: Objective[Batch],
    strength: float,
    loss_of: LossOf,
    mixing: Callable[[nn.Module, _Mix], AbstractContextManager[None]],
) -> Objective[Batch]:
    def mixed(model: nn.Module, batch: Batch) -> Loss:
        if not model.training:
            return objective(model, batch)
        mix = _Mix(float(torch.distributions.Beta(strength, strength).sample()))
        with mixing(model, mix):
            loss = objective(model, batch)
        logits, labels = output(loss, "logits", "mixup"), output(loss, "labels", "mixup")
        if mix.order is None or len(logits) != len(mix.order):
            raise UserError("mixup: expected an objective with one answer an example")
        own, other = loss_of(logits, labels), loss_of(logits, labels[mix.order])
        return Loss(mix.blend(own.total, other.total), own.count, loss.outputs)

    return mixed
