"""Muon: momentum whose matrices are orthogonalised; AdamW for everything that is no matrix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from hanformer.runtime import has_fast_bfloat16
from hanformer.train.optim.base import ParameterGroups, loss_of
from hanformer.train.options import TrainOptions

#: a, b, c of the quintic x ↦ a·x + b·x³ + c·x⁵ that drives singular values to about 1, and its repetitions.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
REPETITIONS = 5
MOMENTUM = 0.95
#: An orthogonal matrix of n × m entries has root mean square max(n, m)^(−1/2); AdamW's updates have about 0.2.
ROOT_MEAN_SQUARE = 0.2


def working_format(device: torch.device) -> torch.dtype:
    """bfloat16, as the published code, where the device is fast at it; float32 elsewhere. 迭代所用的数值格式。"""
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


def orthogonalise(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """U Vᵀ of each matrix U S Vᵀ, nearly: five Newton-Schulz steps leave singular values in about 0.7 to 1.2.

    用牛顿-舒尔茨迭代近似求正交因子。

    Shapes: [B, n, m] to the same. The products are made in `dtype`. Source: Jordan et al. 2024, Muon.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    a, b, c = COEFFICIENTS
    for _ in range(REPETITIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """m ← 0.95 m + 0.05 g; W ← (1 − η λ) W − η · 0.2 √max(n, m) · orthogonalise(0.05 g + 0.95 m).

    Muon 优化器：矩阵参数的动量经正交化；其余参数用 AdamW。

    With the factor 0.2 √max(n, m) an update is as large as AdamW's, so both share a learning rate η and a decay
    λ. Groups whose `kind` is not matrix are updated by torch's AdamW. Matrices of one shape are orthogonalised
    in one batch, in bfloat16 where the device is fast at it. Source: Jordan et al. 2024; the factor: Liu et al. 2025,
    arXiv 2502.16982. Differs from torch.optim.Muon: batched by shape, and in float32 where bfloat16 is slow.
    """

    def __init__(self, groups: ParameterGroups, options: TrainOptions) -> None:
        defaults = {"lr": options.learning_rate, "weight_decay": options.weight_decay, "kind": "matrix"}
        super().__init__(groups, defaults)
        self._betas, self._epsilon = options.betas, options.epsilon

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters that have a gradient. 更新一步。"""
        loss = loss_of(closure)
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["kind"] == "matrix":
                self._turn(parameters, group)
            elif parameters:
                self._adamw(parameters, group)
        return loss

    def _turn(self, parameters: Iterable[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            assert parameter.grad is not None
            momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
            momentum.lerp_(parameter.grad, 1 - MOMENTUM)
            by_shape[parameter.shape].append((parameter, parameter.grad.lerp(momentum, MOMENTUM)))
        for shape, found in by_shape.items():
            updates = torch.stack([update for _, update in found])
            turned = orthogonalise(updates, working_format(updates.device))
            size = ROOT_MEAN_SQUARE * max(shape) ** 0.5
            targets = [parameter for parameter, _ in found]
            torch._foreach_mul_(targets, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(targets, list(turned.unbind()), alpha=-group["lr"] * size)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            # The fused kernel is wrong, without a word, for parameters that are not contiguous.
            fused=all(parameter.is_contiguous() for parameter in parameters),
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=self._epsilon,
            maximize=False,
        )


def muon(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """`Muon` as the trainer takes it. 供训练器使用的 Muon。"""
    return Muon(groups, options)
