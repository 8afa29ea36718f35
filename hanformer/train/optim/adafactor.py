"""AdaFactor in bert4keras' form: a second moment of rows and columns, clipped and relative updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hanformer.train.optim.base import (
    MultiTensor,
    ParameterGroups,
    Portion,
    check_count,
    check_share,
)
from hanformer.train.options import TrainOptions

#: Added to squared gradients, the least scale of a weight, and the largest root mean square of an update.
SQUARE_EPSILON, LEAST_SCALE, CLIP = 1e-30, 1e-3, 1.0
#: The second largest axis that is worth factoring, and what a relative step is multiplied by without scaling.
SMALLEST_FACTORED, UNSCALED_STEP = 128, 0.05
#: The elements of a block of rows on a CPU: larger than the cache, for sums over few rows cost more than memory.
_BLOCK = 1 << 20


def constant_rate(step: int) -> float:
    """1: the rate of the options as it is. 恒定学习率。"""
    return 1.0


def relative_step(step: int) -> float:
    """min(1 / √t, 0.01), which stands for a rate: give 1 as learning_rate. 相对步长。"""
    return min(1 / math.sqrt(step), 0.01)


def factored_axes(shape: Sequence[int], smallest: int = SMALLEST_FACTORED) -> tuple[int, int] | None:
    """The two largest axes of a shape, or None where the second is below `smallest`.

    最大的两个轴；第二大的轴过小时不做分解。
    """
    if len(shape) < 2:
        return None
    *_, second, first = sorted(range(len(shape)), key=lambda axis: shape[axis])
    return (second, first) if shape[second] >= smallest else None


class AdaFactor(MultiTensor):
    """w ← w - α max(1e-3, rms(w)) u, u = g / √v clipped to rms(u) <= 1, v the product of row and column means.

    AdaFactor：用行列均值近似二阶动量，更新量经裁剪并与参数尺度成比例。

    B_t = 1 - t^-0.8; vr and vc are averages of g² + 1e-30 over one of the two largest axes each, with B_t;
    v = vr · vc / mean(vr). Weights whose second largest axis is below `smallest` keep the whole v. With `beta`,
    the clipped u is averaged before it is scaled. α is the learning rate times `rate(t)`: `constant_rate`, or
    `relative_step` with a learning rate of 1. `unscaled` names the kinds of parameters that are not scaled by
    rms(w); `relative_step` is 0.05 times as large for those. Decoupled decay, w ← (1 - αλ)w, with rms(w) from
    before. Differs from torch.optim.Adafactor: the axes, the rate and the small weights that are not factored.
    Source: Shazeer and Stern, arXiv 1804.04235; kexue.fm/archives/7302. Raises UserError for numbers out of range.
    """

    def __init__(
        self,
        groups: ParameterGroups,
        learning_rate: float = 1e-3,
        *,
        rate: Callable[[int], float] = constant_rate,
        beta: float = 0.0,
        unscaled: Sequence[str] = (),
        smallest: int = SMALLEST_FACTORED,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, learning_rate, weight_decay)
        check_share("beta", beta)
        check_count("smallest", smallest)
        self._rate, self._beta, self._unscaled, self._smallest = rate, beta, frozenset(unscaled), smallest

    def first_state(self, weight: Tensor) -> dict[str, Tensor]:
        """Means over one axis and over the other, or all squares; the momentum where there is one."""
        axes = factored_axes(weight.shape, self._smallest)
        squares = {"square": torch.zeros_like(weight)}
        if axes is not None:
            squares = {"row": _zero_mean(weight, axes[0]), "column": _zero_mean(weight, axes[1])}
        return {**squares, **({"momentum": torch.zeros_like(weight)} if self._beta else {})}

    def update(self, portion: Portion, group: dict[str, Any]) -> None:
        """One weight after the other: their shapes differ."""
        rate = group["lr"] * self._rate(portion.step)
        scaled = group["kind"] not in self._unscaled
        if not scaled and self._rate is relative_step:
            rate *= UNSCALED_STEP
        share = portion.step**-0.8
        for weight, gradient, state in zip(portion.weights, portion.gradients, portion.states, strict=True):
            factors = self._factors(gradient, state, share)
            clip = (_size_of_product(gradient, *factors) / CLIP).clamp(min=1).reciprocal()
            if self._beta:
                update = _product(gradient, *factors).mul_(clip)
                gradient = state["momentum"].lerp_(update, 1 - self._beta)
                factors, clip = (torch.ones_like(clip).expand([1] * weight.ndim),) * 2, torch.ones_like(clip)
            size = _decay(weight, 1 - rate * group["weight_decay"])
            scale = size.clamp(min=LEAST_SCALE) if scaled else torch.ones_like(clip)
            rows, columns = factors[0] * (clip * scale), factors[1]
            for some, weights, row, column in _blocks(gradient, weight, rows, columns):
                weights.addcmul_(some, row * column, value=-rate)

    def _factors(self, gradient: Tensor, state: dict[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
        """Two tensors whose product is 1 / √v: of rows and of columns, or 1 / √v and 1."""
        axes = factored_axes(gradient.shape, self._smallest)
        if axes is None:
            state["square"].lerp_(gradient.square().add_(SQUARE_EPSILON), share)
            whole = (state["square"] + SQUARE_EPSILON).rsqrt_()
            return whole, whole.new_ones([1] * gradient.ndim)
        for name, mean in zip(("row", "column"), _means(gradient, axes), strict=True):
            state[name].lerp_(mean.add_(SQUARE_EPSILON), share)
        rows = state["row"] / state["row"].mean(axes[1], keepdim=True)
        return rows.rsqrt_(), state["column"].rsqrt()


def _means(gradient: Tensor, axes: tuple[int, int]) -> list[Tensor]:
    """The means of g² over each of the axes; g² is never built whole on a CPU."""
    sums: tuple[list[Tensor], list[Tensor]] = ([], [])
    for (some,) in _blocks(gradient):
        squares = some * some
        for found, axis in zip(sums, axes, strict=True):
            found.append(squares.sum(axis, keepdim=True))
    # Blocks are cut along axis 0: what was summed over it is still to be added.
    whole = [
        torch.stack(found).sum(0) if axis == 0 else torch.cat(found)
        for found, axis in zip(sums, axes, strict=True)
    ]
    return [total.div_(gradient.shape[axis]) for total, axis in zip(whole, axes, strict=True)]


def _product(tensor: Tensor, *factors: Tensor) -> Tensor:
    for number, factor in enumerate(factors):
        tensor = tensor * factor if number == 0 else tensor.mul_(factor)
    return tensor


def _size(tensor: Tensor) -> Tensor:
    """The root mean square."""
    return _decay(tensor, 1.0)


def _decay(tensor: Tensor, factor: float) -> Tensor:
    """The root mean square; what was read for it is multiplied while the cache holds it."""
    norms = []
    for (some,) in _blocks(tensor):
        norms.append(torch.linalg.vector_norm(some))
        if factor != 1:
            some.mul_(factor)
    return torch.stack(norms).norm() / math.sqrt(max(tensor.numel(), 1))


def _size_of_product(gradient: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The root mean square of g · rows · columns; of a factored matrix √(rows² · g² · columns²), two passes fewer."""
    if gradient.ndim != 2 or rows.shape != (len(gradient), 1) or columns.shape != (1, gradient.shape[1]):
        return _size(gradient * rows * columns)
    squared = columns.square().squeeze(0)
    sums = [
        torch.dot(torch.mv(some * some, squared), row.square().squeeze(1))
        for some, row in _blocks(gradient, rows)
    ]
    return (torch.stack(sums).sum() / gradient.numel()).sqrt()


def _blocks(tensor: Tensor, *others: Tensor) -> Iterator[list[Tensor]]:
    """Blocks of rows where a CPU's cache would be full, otherwise all; others of one row stand in each block."""
    if tensor.device.type != "cpu" or tensor.ndim != 2 or tensor.numel() <= _BLOCK:
        yield [tensor, *others]
        return
    rows = max(_BLOCK // tensor.shape[1], 1)
    for start in range(0, len(tensor), rows):
        yield [one if len(one) == 1 else one[start : start + rows] for one in (tensor, *others)]


def _zero_mean(weight: Tensor, axis: int) -> Tensor:
    return weight.new_zeros([1 if at == axis else size for at, size in enumerate(weight.shape)])


def adafactor(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """`AdaFactor` at a constant relative rate, without momentum; betas and epsilon play no part.

    训练器使用的 AdaFactor。
    """
    return AdaFactor(groups, options.learning_rate)
