"""How smooth a loss is, and what normalising does to its gradient: small exact pieces.

损失有多平滑，以及归一化对梯度的作用。

Source: kexue.fm/archives/6992; Santurkar et al. 2018, arXiv 1805.11604.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


@dataclass(frozen=True)
class Regression:
    """The smoothness of least squares on some inputs: its Hessian is 2 E[x xᵀ], with 1 appended to x for the bias.

    最小二乘的平滑程度。

    `smoothness` is the largest eigenvalue λ, `condition` that by the least; gradient descent converges below the rate
    2/λ, and `measured` is where it was found to stop converging.
    """

    mean_square: float
    smoothness: float
    condition: float
    measured: float

    @property
    def largest_rate(self) -> float:
        """2 / λ."""
        return 2.0 / self.smoothness


def normalise(inputs: Tensor, centre: bool, scale: bool) -> Tensor:
    """[N, C] less its mean, or divided by its deviation from what is subtracted, or both; statistics are of the batch.

    对输入做中心化、缩放，或两者。
    """
    shifted = inputs - inputs.mean(0) if centre else inputs
    return shifted / shifted.square().mean(0).sqrt() if scale else shifted


def regression(inputs: Tensor) -> Regression:
    """How smooth least squares on these inputs [N, C] is. 这些输入上最小二乘的平滑程度。"""
    columns = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
    hessian = 2 * columns.T @ columns / len(columns)
    values = torch.linalg.eigvalsh(hessian)
    largest = float(values[-1])
    return Regression(
        float(inputs.square().sum(1).mean()), largest, largest / float(values[0]), _largest_rate(hessian)
    )


def _largest_rate(hessian: Tensor, steps: int = 1 << 14) -> float:
    """The rate from which on gradient descent leads away from the minimum, by halving an interval."""
    start = torch.ones(len(hessian), 1, dtype=hessian.dtype)
    identity = torch.eye(len(hessian), dtype=hessian.dtype)
    low, high = 0.0, 10.0 / float(hessian.diagonal().max())
    for _ in range(30):
        rate = (low + high) / 2
        error = torch.linalg.matrix_power(identity - rate * hessian, steps) @ start
        if bool(error.isfinite().all()) and float(error.norm()) <= float(start.norm()):
            low = rate
        else:
            high = rate
    return (low + high) / 2


def batch_norm(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """ŷ = (y − mean)/std of each feature over the batch, with the biased std, and that std: [N, C] and [C].

    批归一化（有偏标准差，不加 epsilon）。
    """
    std, mean = torch.std_mean(inputs, 0, correction=0)
    return (inputs - mean) / std, std


def gradient_square(gradient: Tensor, normalised: Tensor, std: Tensor, gain: Tensor) -> Tensor:
    """‖∂L/∂y‖² of each feature from G = ∂L/∂z, z = γ ŷ + β: γ²/σ² (‖G‖² − ⟨1, G⟩²/m − ⟨G, ŷ⟩²/m).

    由归一化之后的梯度求归一化之前梯度的平方范数（恒等式）。

    Exact: normalising removes the parts of G along 1 and along ŷ. Shapes: G and ŷ [m, C], σ and γ [C], to [C].
    Source: arXiv 1805.11604, theorem 4.1, where it stands as a bound.
    """
    count = len(gradient)
    rest = (
        gradient.square().sum(0)
        - gradient.sum(0).square() / count
        - (gradient * normalised).sum(0).square() / count
    )
    return (gain / std).square() * rest


@dataclass(frozen=True)
class Line:
    """A loss along its negative gradient: at θ − s g, for each s of `steps`.

    损失沿负梯度方向的变化。

    `losses` are measured; `bounds` are f − s ‖g‖² + s²/2 · L ‖g‖² with L = `smoothness`, the largest
    ‖∇f(θ − s g) − g‖ / (s ‖g‖) that was met on the way; `start` and `slope` are f and ‖g‖².
    """

    start: float
    slope: float
    smoothness: float
    steps: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def bounds(self) -> tuple[float, ...]:
        """The bound at every step."""
        return tuple(self.start - s * self.slope * (1 - s * self.smoothness / 2) for s in self.steps)


def along_gradient(model: nn.Module, loss_of: Callable[[], Tensor], steps: tuple[float, ...]) -> Line:
    """Walks from the model's weights against the gradient, looks, and comes back.

    沿负梯度走若干步，测量损失与梯度变化后复原参数。
    """
    parameters = list(model.parameters())
    here = parameters_to_vector(parameters).detach().clone()
    start, gradient = _at(here, parameters, loss_of)
    losses, smoothness = [], 0.0
    for step in steps:
        loss, other = _at(here - step * gradient, parameters, loss_of)
        losses.append(loss)
        smoothness = max(smoothness, float((other - gradient).norm() / (step * gradient.norm())))
    vector_to_parameters(here, parameters)
    return Line(start, float(gradient.square().sum()), smoothness, steps, tuple(losses))


def _at(place: Tensor, parameters: list[nn.Parameter], loss_of: Callable[[], Tensor]) -> tuple[float, Tensor]:
    vector_to_parameters(place, parameters)
    loss = loss_of()
    gradients = torch.autograd.grad(loss, parameters)
    return float(loss.detach()), torch.cat([gradient.flatten() for gradient in gradients])
