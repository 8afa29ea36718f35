"""Cross-entropy of hidden states against a vocabulary table, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.nn.functional.powers import LOG2_E
from hanformer.train.losses.numerics import widened
from hanformer.train.objective import Loss

#: So many logits at most are held at a time: 64 MiB in float32.
LOGITS = 2**24


def chunked_cross_entropy(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_id: int = -100,
    weights: Tensor | None = None,
    logits_at_once: int = LOGITS,
) -> Loss:
    """`cross_entropy(hidden @ table.T + bias, targets)`, some tokens at a time; gradients are equal to its own.

    分块交叉熵：逐块计算 logits 与梯度，从不同时保存全部 logits。

    Gradients are made in the forward pass, chunk by chunk, at the cost of the plain form; what stays is of the size of
    `hidden` and `table`. It has no second derivative: a gradient penalty needs the plain form. Under autocast the
    products run in its dtype; softmax and sums in fp32.
    Shapes: hidden [..., C], table [V, C], bias [V] or None, targets and weights [...]. With a vocabulary head:
    `chunked_cross_entropy(head.features(hidden), head.table, targets, bias=head.bias)`.
    Raises UserError for sizes that do not fit each other, a smoothing outside [0, 1], and a second derivative.
    Source: Szegedy et al., arXiv 1512.00567 (smoothing).
    """
    _check(hidden, table, targets, label_smoothing)
    rows = hidden.reshape(-1, hidden.shape[-1])
    labels = targets.reshape(-1)
    kept = labels != ignore_id
    scale = widened(rows).dtype
    weighing = kept.to(scale) if weights is None else weights.reshape(-1).to(scale) * kept
    choice = _Choice(label_smoothing, max(1, logits_at_once // max(1, len(table))), torch.is_grad_enabled())
    total = _Chunked.apply(
        _as_autocast(rows),
        _as_autocast(table),
        None if bias is None else _as_autocast(bias),
        weighing,
        labels.masked_fill(~kept, 0),
        choice,
    )
    return Loss(total, kept.sum() if weights is None else weighing.sum())


@dataclass(frozen=True)
class _Choice:
    smoothing: float
    rows_at_once: int
    with_gradients: bool


def _check(hidden: Tensor, table: Tensor, targets: Tensor, smoothing: float) -> None:
    if hidden.shape[-1] != table.shape[-1] or hidden.shape[:-1] != targets.shape:
        raise UserError(
            f"chunked_cross_entropy: expected hidden [..., C], table [V, C] and targets [...], got "
            f"{list(hidden.shape)}, {list(table.shape)} and {list(targets.shape)}"
        )
    if not 0 <= smoothing <= 1:
        raise UserError(f"chunked_cross_entropy: expected a label smoothing from 0 to 1, got {smoothing}")


def _as_autocast(values: Tensor) -> Tensor:
    """In the dtype in which autocast would multiply, which leaves float64 alone."""
    kind = values.device.type
    if values.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return values
    return values.to(torch.get_autocast_dtype(kind))


class _Chunked(Function):
    """Σ_i w_i l_i, its gradients made on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        bias: Tensor | None,
        weights: Tensor,
        labels: Tensor,
        choice: _Choice,
    ) -> Tensor:
        """The weighted sum over [N, C] hidden states and a [V, C] table; `labels` and `weights` are [N].

        `choice.rows_at_once` rows have logits at a time, and leave their share of the three gradients behind.
        """
        # Under no_grad the context still says that parameters need a gradient.
        wanted = [choice.with_gradients and needed for needed in ctx.needs_input_grad[:3]]
        gradients = _Gradients(hidden, table, wanted)
        losses = weights.new_empty(len(hidden))
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), choice.rows_at_once):
                part = slice(start, start + choice.rows_at_once)
                logits = widened(F.linear(hidden[part], table, bias))
                losses[part], mass = _to_powers_(logits, labels[part], choice.smoothing)
                if any(wanted):
                    _to_gradient_(logits, mass, labels[part], weights[part], choice.smoothing)
                    gradients.add(part, logits, hidden, table)
        ctx.save_for_backward(*gradients.finished(hidden, table, bias), losses)
        # What nobody weighs may be infinite.
        return (losses.masked_fill(weights == 0, 0.0) * weights).sum()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        # With a graph wanted, the stored gradients would pass for constants and the second derivative be wrong.
        if torch.is_grad_enabled():
            raise UserError("chunked_cross_entropy has no second derivative: use cross_entropy of all logits")
        of_inputs = [
            None if found is None else (given * found).to(found.dtype) for found in ctx.saved_tensors
        ]
        return (*of_inputs, None, None)


def _to_powers_(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """−(1 − s) log p(y) − s / V Σ log p, and Σ_v e^(z_v − max z): [m] each; logits z [m, V] become e^(z − max z)."""
    peak = logits.amax(-1)
    of_labels = (1 - smoothing) * logits.gather(-1, labels[:, None]).squeeze(-1)
    if smoothing:
        of_labels += smoothing * logits.mean(-1)
    mass = logits.sub_(peak[:, None]).mul_(LOG2_E).exp2_().sum(-1)
    return peak + mass.log() - of_labels, mass


def _to_gradient_(powers: Tensor, mass: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> None:
    """p · mass becomes w (p − (1 − s) [v = y] − s / V), in place."""
    powers *= (weights / mass)[:, None]
    if smoothing:
        powers -= (weights * (smoothing / powers.shape[-1]))[:, None]
    powers[torch.arange(len(labels), device=labels.device), labels] -= weights * (1 - smoothing)


class _Gradients:
    """Gradients of hidden states, table and bias, added up chunk by chunk in fp32 at least."""

    def __init__(self, hidden: Tensor, table: Tensor, wanted: Sequence[bool]) -> None:
        wide = widened(table[:0]).dtype
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        self.table = torch.zeros_like(table, dtype=wide) if wanted[1] else None
        self.bias = table.new_zeros(len(table), dtype=wide) if wanted[2] else None

    def add(self, part: slice, logits: Tensor, hidden: Tensor, table: Tensor) -> None:
        """Adds what the gradient of some rows' logits, [m, V], gives."""
        narrow = logits.to(hidden.dtype)
        if self.hidden is not None:
            self.hidden[part] = narrow @ table
        if self.table is not None:
            self.table += narrow.T @ hidden[part]
        if self.bias is not None:
            self.bias += logits.sum(0)

    def finished(self, hidden: Tensor, table: Tensor, bias: Tensor | None) -> list[Tensor | None]:
        """Each in the dtype of what it is the gradient of."""
        pairs = ((self.hidden, hidden), (self.table, table), (self.bias, bias))
        return [found if found is None or own is None else found.to(own.dtype) for found, own in pairs]
