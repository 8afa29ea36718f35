"""How gradients fade or grow on their way back through a recurrent model: exact, lag by lag.

循环网络的梯度如何随时间衰减或放大：逐滞后的精确测量。

Source: kexue.fm/archives/7888.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.errors import UserError
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.lab.rnn_jacobians import lag_log_norms, lyapunov_exponents, path_terms, whole_jacobians
from hanformer.models.recurrent_lm import RecurrentLm
from hanformer.models.recurrent_store import load_recurrent
from hanformer.nn.layers.recurrent.cell import RecurrentCell, State
from hanformer.nn.layers.recurrent.kinds import KINDS, ON_LSTM, make_cell
from hanformer.parsing.words import Words

#: Beyond, products of matrices leave the range of numbers.
_MOST_GAIN = 1e6
#: Growth a step between these is called steady.
_STEADY = (0.97, 1.03)


@dataclass(frozen=True)
class Options:
    """New cells of every kind in `kinds` on noise; or, with `run`, the layers of a trained model on `text`.

    对各类新建单元（随机输入）或已训练模型（给定文本）测量梯度。

    `gain` scales the orthogonal recurrent matrices of new cells.
    """

    kinds: tuple[str, ...] = ("simple", "lstm", "gru", "gru_modified")
    size: int = 32
    steps: int = 60
    gain: float = 1.0
    seed: int = 0
    run: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.kinds) - set(KINDS)
        if unknown or not self.kinds:
            raise UserError(
                f"kinds: expected some of {', '.join(KINDS)}, got {', '.join(self.kinds) or 'none'}"
            )
        if self.size < 2 or self.steps < 2:
            raise UserError(f"expected size and steps of at least 2, got {self.size} and {self.steps}")
        if not 0 <= self.gain <= _MOST_GAIN:
            raise UserError(f"gain: expected a factor from 0 to {_MOST_GAIN:g}, got {self.gain}")
        if bool(self.run) != bool(self.text):
            raise UserError("give run and text together: --set run=runs/onlstm --set text='the cat sat'")


@dataclass(frozen=True, eq=False)
class CellGradients:
    """What was measured of one cell on one text of L steps.

    一个单元在一段输入上的测量结果。

    `norms`, `radii` [L]: spectral norm and spectral radius of each step's Jacobian of the whole state; `by_lag` [L]: ln
    of the norm of the product of the last k of them; `exponents` [S]: Lyapunov exponents; `shares`: how the mean norm
    of each term of the closed form compares with their sum, empty for a cell without one.
    """

    name: str
    norms: Tensor
    radii: Tensor
    by_lag: Tensor
    exponents: Tensor
    shares: Mapping[str, float]

    @property
    def growth(self) -> float:
        """The factor a step by which the product of Jacobians grows over the longer half of the lags. 每步增长率。"""
        last = len(self.by_lag) - 1
        half = min(len(self.by_lag) // 2, last - 1)
        slope = float(self.by_lag[-1] - self.by_lag[half]) / (last - half)
        return math.exp(slope) if math.isfinite(slope) else 0.0

    @property
    def verdict(self) -> str:
        """vanishing, steady or exploding. 结论：消失、平稳或爆炸。"""
        low, high = _STEADY
        return "vanishing" if self.growth < low else "exploding" if self.growth > high else "steady"

    def arrays(self) -> dict[str, Tensor]:
        """The numbers by name. 各数组。"""
        return {"norms": self.norms, "radii": self.radii, "by_lag": self.by_lag, "exponents": self.exponents}


def measure_cell(name: str, cell: RecurrentCell, x: Tensor, weight: Tensor | None = None) -> CellGradients:
    """Measures a cell along x [L, I] from a state of zeros, in float64; `weight` stands in for its recurrent matrix.

    精确测量一个单元的雅可比矩阵；代价随状态大小的三次方增长。

    Raises UserError for less than two steps.
    """
    if len(x) < 2:
        raise UserError(f"expected at least two steps to measure gradients along, got {len(x)}")
    wide = _wide(cell)
    used = wide.recurrent.weight if weight is None else weight
    used, x = used.detach().cpu().double(), x.detach().cpu().double()
    jacobians = whole_jacobians(wide, x, used)
    return CellGradients(
        name,
        norms=torch.linalg.matrix_norm(jacobians, 2),
        radii=torch.linalg.eigvals(jacobians).abs().amax(-1),
        by_lag=lag_log_norms(jacobians),
        exponents=lyapunov_exponents(jacobians),
        shares=_shares(wide, x, used),
    )


def _wide(cell: RecurrentCell) -> RecurrentCell:
    """A float64 copy on the CPU that shares nothing with the cell."""
    return copy.deepcopy(cell).cpu().double()


def _shares(cell: RecurrentCell, x: Tensor, weight: Tensor) -> dict[str, float]:
    try:
        terms = path_terms(cell, x, weight)
    except UserError:
        return {}
    means = {
        name: float(torch.stack([torch.linalg.matrix_norm(step[name], 2) for step in terms]).mean())
        for name in terms[0]
    }
    total = sum(means.values()) or 1.0
    return {name: mean / total for name, mean in means.items()}


def measure_model(model: RecurrentLm, ids: Sequence[int]) -> list[CellGradients]:
    """Measures every layer of a language model while it reads the ids; each layer for the input that it gets there.

    测量语言模型各层在给定文本上的雅可比矩阵。
    """
    with torch.no_grad():
        tokens = torch.tensor(ids, device=model.device)[:, None]
        output = model.eval().read(tokens)
        inputs = [model.embedding(tokens), *output.raw[:-1]]
    return [
        measure_cell(f"layer {number}", cell, x[:, 0], model.stack.weight(cell))
        for number, (cell, x) in enumerate(zip(model.stack.layers, inputs, strict=True))
    ]


def loss_gradients(model: RecurrentLm, ids: Sequence[int]) -> Tensor:
    """‖∂ loss_T / ∂ state_{T-k}‖ of every layer, [layers, k = 0 ... L-2], for the loss of the last id alone.

    最后一个词的损失对各层各时刻状态的梯度范数（BPTT 的逐滞后梯度）。

    The gradient goes through all layers, and the states are those of a pass step by step.
    Raises UserError for less than three ids.
    """
    if len(ids) < 3:
        raise UserError(f"expected at least three words to follow a gradient through, got {len(ids)}")
    states_by_step, hidden = _walk(model.eval(), torch.tensor(ids[:-1], device=model.device))
    loss = functional.cross_entropy(model.output(hidden), torch.tensor(ids[-1:], device=model.device))
    flat = [part for states in states_by_step for state in states for part in state]
    gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True))
    norms = [[_norm([next(gradients) for _ in state]) for state in states] for states in states_by_step]
    return torch.tensor(norms, dtype=torch.float64).flip(0).T


def _walk(model: RecurrentLm, ids: Tensor) -> tuple[list[list[State]], Tensor]:
    """Step by step through all layers; a state is handed on as copies, so that each part has a gradient of its own."""
    stack = model.stack
    weights = [stack.weight(cell) for cell in stack.layers]
    states, kept = list(stack.first_states(1)), []
    x = model.embedding(ids[:1])
    for place in range(len(ids)):
        x = model.embedding(ids[place : place + 1])
        for layer, cell in enumerate(stack.layers):
            state = cell.advance(cell.input(x), states[layer], weights[layer])
            states[layer] = tuple(part.clone() for part in state)
            x = states[layer][0]
        kept.append(list(states))
    return kept, x


def _norm(gradients: Sequence[Tensor | None]) -> float:
    return math.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None))


def new_cell(kind: str, size: int, gain: float) -> RecurrentCell:
    """A cell with orthogonal recurrent blocks, scaled by `gain`, and no biases. 循环矩阵正交初始化的单元。"""
    cell = make_cell(kind, size, size, form="su" if kind == ON_LSTM else "paper")
    with torch.no_grad():
        for block in cell.recurrent.weight[-cell.gates * size :].split(size):
            nn.init.orthogonal_(block, gain)
        for linear in (cell.input, cell.recurrent):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
    return cell


def rnn_gradient_report(
    measured: Sequence[CellGradients], losses: Mapping[str, Tensor] | None = None
) -> Report:
    """The measurements as one table and one figure; `losses` are curves of `loss_gradients` by name.

    把测量结果汇成表格与图。
    """
    head = (
        "cell",
        "verdict",
        "growth a step",
        "norm of a step",
        "radius of a step",
        "largest exponent",
        "main term",
    )
    rows = tuple(_row(cell) for cell in measured)
    low, high = _STEADY
    said = (
        f"A product of Jacobians whose factor a step is below {low:g} vanishes, above {high:g} it explodes.",
        f"雅可比连乘每步的倍数低于 {low:g} 为消失（vanishing），高于 {high:g} 为爆炸（exploding）。",
    )
    findings = tuple(
        f"{cell.name}: {cell.verdict}; over {len(cell.by_lag)} steps the product of Jacobians changes by a factor of "
        f"10^{float(cell.by_lag[-1]) / math.log(10):.1f}"
        for cell in measured
    )
    pictures = [Picture("lags", "The norm of the product of Jacobians by lag.", _lags(measured))]
    if losses:
        pictures.append(Picture("losses", "The gradient of the last word's loss by lag.", _losses(losses)))
    return Report(
        "Gradients of recurrent networks · 循环网络的梯度",
        (*said, *findings),
        (Table("By cell · 各单元", head, rows),),
        tuple(pictures),
    )


def _row(cell: CellGradients) -> tuple[str, ...]:
    main = next(iter(cell.shares.items()), None)
    return (
        cell.name,
        cell.verdict,
        f"{cell.growth:.4f}",
        f"{float(cell.norms.mean()):.3f}",
        f"{float(cell.radii.mean()):.3f}",
        f"{float(cell.exponents[0]):.4f}",
        "" if main is None else f"{main[0]} {main[1]:.0%}",
    )


def _lags(measured: Sequence[CellGradients]) -> object:
    drawn = figure()
    axes = drawn.subplots()
    for cell in measured:
        axes.plot(range(1, len(cell.by_lag) + 1), (cell.by_lag / math.log(10)).tolist(), label=cell.name)
    axes.set_xlabel("lag in steps")
    axes.set_ylabel("log10 of the norm")
    axes.legend()
    tidy([axes])
    return drawn


def _losses(losses: Mapping[str, Tensor]) -> object:
    drawn = figure()
    axes = drawn.subplots()
    for name, curve in losses.items():
        axes.semilogy(range(len(curve)), curve.clamp(min=1e-30).tolist(), label=name)
    axes.set_xlabel("lag in steps")
    axes.set_ylabel("norm of the gradient")
    axes.legend()
    tidy([axes])
    return drawn


def run(out: Path, options: Options) -> Report:
    """The experiment of the lab. 实验入口。"""
    torch.manual_seed(options.seed)
    if options.run:
        return _of_run(options)
    x = torch.randn(options.steps, options.size)
    cells = {kind: new_cell(kind, options.size, options.gain) for kind in options.kinds}
    return rnn_gradient_report([measure_cell(kind, cell, x) for kind, cell in cells.items()])


def _of_run(options: Options) -> Report:
    model = load_recurrent(options.run)
    folder = Path(options.run)
    words = Words.load(folder / "best" if (folder / "best").is_dir() else folder)
    ids = [words.end_id, *words.ids(words.cut(options.text)), words.end_id]
    curves = {f"layer {layer}": curve for layer, curve in enumerate(loss_gradients(model, ids))}
    return rnn_gradient_report(measure_model(model, ids[:-1]), curves)
