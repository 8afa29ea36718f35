"""What batch normalisation does: a small network trained with it and without, and the loss along the gradient.

批归一化到底做了什么：同一小网络加与不加 BN 的训练过程，以及损失沿梯度方向的形状。

Source: kexue.fm/archives/6992; Santurkar et al. 2018, arXiv 1805.11604.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.lab.smoothness import Line, along_gradient, normalise, regression

PLACES = ("none", "before", "after")
NAMES = {"none": "no norm", "before": "norm before each layer", "after": "norm after each layer"}
_COLOURS = {"none": "#b5442e", "before": "#2b6cb0", "after": "#3a8f5c"}


@dataclass(frozen=True)
class Options:
    """Inputs of `features` with mean `mean` and scales from 0.1 to 10, and a network of `depth` layers of `width`.

    输入特征、网络深度与宽度、学习率与步数。

    Every network takes `steps` steps of gradient descent at `rate`; each `every` the loss is looked at along the
    gradient, as far as `reach` times the rate.
    """

    examples: int = 512
    features: int = 16
    mean: float = 10.0
    depth: int = 6
    width: int = 32
    rate: float = 0.1
    steps: int = 200
    every: int = 5
    reach: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.features, self.depth, self.width, self.steps, self.every)
        if min(counts) < 1 or self.examples < 2:
            raise UserError("lab batchnorm: expected counts of at least 1, and two examples or more")
        if not (self.rate > 0 and self.reach > 0):
            raise UserError(
                f"lab batchnorm: expected a rate and a reach above 0, got {self.rate}, {self.reach}"
            )


@dataclass(frozen=True)
class Course:
    """The training of one network: its losses, the lines that were looked at, and gradients of layers at the start.

    一个网络的训练过程。
    """

    losses: tuple[float, ...]
    lines: tuple[Line, ...]
    layers: tuple[float, ...]

    @property
    def smoothness(self) -> float:
        """The median of L over the lines."""
        found = sorted(line.smoothness for line in self.lines)
        return found[len(found) // 2]

    @property
    def spread(self) -> float:
        """The largest gradient of a layer at the start, by the least one."""
        return max(self.layers) / max(min(self.layers), 1e-30)


def make_data(options: Options) -> tuple[Tensor, Tensor]:
    """Inputs [N, C] far from 0 and of unequal scales, and labels [N] that do not depend on either.

    远离原点、尺度不一的输入，以及与二者无关的标签。
    """
    generator = torch.Generator().manual_seed(options.seed)
    plain = torch.randn(options.examples, options.features, generator=generator, dtype=torch.float64)
    direction = torch.randn(options.features, generator=generator, dtype=torch.float64)
    curved = torch.sin(plain * 2).sum(1) + plain @ direction
    scales = torch.logspace(-1, 1, options.features, dtype=torch.float64)
    return plain * scales + options.mean, (curved > curved.median()).double()


def make_network(options: Options, place: str) -> nn.Sequential:
    """Linear layers with tanh between them, and a norm before or after each of them, or none.

    多层感知机，可在每个线性层之前或之后做批归一化。

    Equal linear weights for all places.
    """
    torch.manual_seed(options.seed)
    sizes = [options.features, *([options.width] * (options.depth - 1)), 1]
    linears = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    parts: list[nn.Module] = []
    for number, linear in enumerate(linears):
        last = number + 1 == len(linears)
        if place == "before":
            parts.append(nn.BatchNorm1d(linear.in_features, track_running_stats=False))
        parts.append(linear)
        if place == "after" and not last:
            parts.append(nn.BatchNorm1d(linear.out_features, track_running_stats=False))
        if not last:
            parts.append(nn.Tanh())
    return nn.Sequential(*parts).double()


def train(options: Options, place: str) -> Course:
    """Full-batch gradient descent, with looks along the gradient. 全批量梯度下降，并定期观察梯度方向。"""
    inputs, labels = make_data(options)
    network = make_network(options, place)
    linears = [part for part in network if isinstance(part, nn.Linear)]
    grid = tuple(options.rate * options.reach * (number + 1) / 16 for number in range(16))

    def loss_of() -> Tensor:
        return F.binary_cross_entropy_with_logits(network(inputs).squeeze(-1), labels)

    losses: list[float] = []
    lines: list[Line] = []
    layers: tuple[float, ...] = ()
    optimizer = torch.optim.SGD(network.parameters(), lr=options.rate)
    for step in range(options.steps):
        if step % options.every == 0:
            lines.append(along_gradient(network, loss_of, grid))
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        layers = layers or tuple(_size(linear.weight.grad) for linear in linears)
        optimizer.step()
        losses.append(float(loss.detach()))
    return Course(tuple(losses), tuple(lines), layers)


def run(out: Path, options: Options) -> Report:
    """Trains all three, measures the linear case, and draws. 训练三种网络、测量线性情形并画图。"""
    courses = {place: train(options, place) for place in PLACES}
    return Report(
        "What batch normalisation does · 批归一化做了什么",
        _findings(options, courses),
        (_of_inputs(options), _of_networks(courses)),
        (
            Picture(
                "landscape",
                "Losses, with all those met along the gradient as far as the reach; L; and one look with its bound.",
                _draw(courses),
            ),
        ),
    )


def _size(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.norm())


def _findings(options: Options, courses: dict[str, Course]) -> tuple[str, ...]:
    plain, normed = courses["none"], courses["before"]
    times = normed.lines[0].slope / plain.lines[0].slope
    limit = 2 / options.rate
    return (
        f"After {options.steps} steps at the rate {options.rate:g} the loss is {plain.losses[-1]:.4g} without a norm "
        f"and {normed.losses[-1]:.4g} with one before each layer. At the start, from the same weights, the "
        f"square of the gradient is {times:.3g} times as large with it.",
        f"Descent is sure where L is below 2/rate = {limit:.3g}; medians of L along the gradient are "
        f"{plain.smoothness:.3g} without and {normed.smoothness:.3g} with it. Centring lowers the largest eigenvalue "
        "of the linear case, scaling mends its condition.",
        f"相同步数与学习率下，不归一化的损失为 {plain.losses[-1]:.4g}，每层之前归一化为 {normed.losses[-1]:.4g}；"
        f"起点处梯度平方之比为 {times:.3g}；沿梯度方向的 L 中位数为 {plain.smoothness:.3g} 与 {normed.smoothness:.3g}"
        f"（2/学习率 = {limit:.3g}）。线性情形中，中心化降低最大特征值，缩放改善条件数。",
    )


def _of_inputs(options: Options) -> Table:
    inputs, _ = make_data(options)
    kinds = {
        "raw": (False, False),
        "centred": (True, False),
        "scaled": (False, True),
        "both": (True, True),
    }
    rows = []
    for name, (centre, scale) in kinds.items():
        found = regression(normalise(inputs, centre, scale))
        numbers = (found.mean_square, found.smoothness, found.condition, found.largest_rate, found.measured)
        rows.append((name, *(f"{number:.4g}" for number in numbers)))
    head = ("inputs", "E‖x‖²", "L = λ", "condition", "2/L", "largest rate, found")
    return Table("Least squares on these inputs · 线性情形", head, tuple(rows))


def _of_networks(courses: dict[str, Course]) -> Table:
    rows = tuple(
        (
            NAMES[place],
            f"{course.losses[-1]:.4g}",
            f"{course.smoothness:.3g}",
            f"{max(line.smoothness for line in course.lines):.3g}",
            f"{course.lines[0].slope:.3g}",
            f"{course.spread:.3g}",
        )
        for place, course in courses.items()
    )
    head = (
        "network",
        "last loss",
        "L, median",
        "L, largest",
        "‖g‖² at the start",
        "gradients of layers, largest by least",
    )
    return Table("Networks · 网络", head, rows)


def _draw(courses: dict[str, Course]) -> Any:
    picture = figure(11, 3.4)
    losses, smoothness, look = picture.subplots(1, 3)
    for place, course in courses.items():
        style = {"color": _COLOURS[place], "linewidth": 1.2}
        places = _places(course)
        losses.plot(course.losses, label=NAMES[place], **style)
        losses.fill_between(
            places, _each(course, min), _each(course, max), color=_COLOURS[place], alpha=0.2, linewidth=0
        )
        smoothness.plot(places, [line.smoothness for line in course.lines], **style)
        line = course.lines[len(course.lines) // 4]
        look.plot(line.steps, [loss - line.start for loss in line.losses], **style)
        look.plot(line.steps, [bound - line.start for bound in line.bounds], linestyle=":", **style)
    losses.set(xlabel="step", ylabel="loss", title="loss, and along the gradient")
    losses.legend(fontsize=8)
    smoothness.set(xlabel="step", ylabel="L", yscale="log", title="L along the gradient")
    look.set(xlabel="s", ylabel="f(θ − s g) − f(θ)", title="a look ahead; dotted: the bound")
    tidy((losses, smoothness, look))
    return picture


def _places(course: Course) -> list[int]:
    every = -(-len(course.losses) // len(course.lines))
    return [number * every for number in range(len(course.lines))]


def _each(course: Course, choose: Callable[..., float]) -> list[float]:
    return [choose(line.losses) for line in course.lines]
