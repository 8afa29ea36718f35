"""The gradient of one update: micro-batches summed, divided once, clipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.runtime import within_memory
from hanformer.train.objective import Loss, Objective
from hanformer.train.precision import Precision
from hanformer.train.workers import Workers

Batch = TypeVar("Batch")


@dataclass(frozen=True, eq=False)
class Sums:
    """Of the micro-batches of an update, in all workers: the summed loss, the count, what the gradients still lack.

    一次更新内各微批次（含所有进程）之和。

    The gradients in the parameters, times `scale`, are those of total / count. All are scalar tensors.
    """

    total: Tensor
    count: Tensor
    scale: Tensor


def backward(
    model: nn.Module,
    objective: Objective[Batch],
    batches: Iterable[Batch],
    precision: Precision,
    workers: Workers | None = None,
) -> Sums:
    """Runs the micro-batches forward and backward, and leaves summed gradients in the parameters.

    依次前向、反向各微批次，累积梯度。

    The full count is known after the last micro-batch only. The totals are divided by the first one's count,
    which keeps half-precision gradients in range and is exact where there is one micro-batch; `scale` is the
    rest. Where several workers share the update, they agree on the divisor, and each has summed gradients of all.
    Raises UserError where the objective gives something else than a Loss with a scalar total, and where no memory
    holds what a batch needs.
    """
    workers = workers or Workers()
    totals: list[Tensor] = []
    counts: list[Tensor] = []
    for batch in batches:
        with within_memory(_too_large):
            with precision.autocast():
                loss = _checked(workers.loss(model, objective, batch))
            counts.append(_count(loss))
            if len(counts) == 1:
                divisor = workers.agreed(counts[0]).clamp(min=1)
            torch.autograd.backward(precision.scaler.scale(loss.total / divisor))
        totals.append(loss.total.detach())
    workers.collect()
    total, count = workers.summed(_pair(torch.stack(totals).sum(), torch.stack(counts).sum())).unbind()
    scale = torch.where(count > 0, divisor / count, 0.0)
    return Sums(total, count, scale)


@torch.no_grad()
def scale_and_clip(
    parameters: Sequence[Tensor],
    scale: Tensor,
    clip_norm: float | None,
    norm_of: Callable[[Sequence[Tensor]], Tensor] = torch.nn.utils.get_total_norm,
) -> Tensor:
    """Multiplies the gradients by `scale` and limits their global norm; returns the norm before the limit.

    缩放梯度并按全局范数裁剪；返回裁剪前的范数。

    factor = scale * min(1, clip_norm / norm), in one multi-tensor product. Parameters without a gradient are
    left. `norm_of` gradients is that of the whole one where these are a part.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros((), device=scale.device)
    norm = norm_of(gradients) * scale
    factor = scale if clip_norm is None else scale * (clip_norm / (norm + 1e-6)).clamp(max=1.0)
    # On a CPU looking at the factor is free, and a pass over all gradients is not.
    if factor.is_cuda or factor != 1.0:
        torch._foreach_mul_(gradients, factor)
    return norm


def _too_large(asked: str) -> str:
    return (
        f"training: no memory for a batch{asked}; take smaller batches (token_budget), shorter rows (maximum_length), "
        "or a smaller model (of linear attention: fewer features, a lower order)"
    )


def _checked(loss: object) -> Loss:
    if not isinstance(loss, Loss):
        raise UserError(f"objective: expected hanformer.train.Loss(total, count), got {type(loss).__name__}")
    if loss.total.ndim != 0:
        raise UserError(f"objective: expected a scalar total (a sum), got shape {list(loss.total.shape)}")
    return loss


def _pair(total: Tensor, count: Tensor) -> Tensor:
    return torch.stack([total.to(count.dtype), count])


def _count(loss: Loss) -> Tensor:
    dtype = torch.promote_types(loss.total.dtype, torch.float32)
    if isinstance(loss.count, Tensor):
        return loss.count.detach().to(loss.total.device, dtype)
    return torch.full((), float(loss.count), dtype=dtype, device=loss.total.device)
