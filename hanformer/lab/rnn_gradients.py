"""How gradients fade or grow on their way back through a recurrent model: exact, lag by lag.

循环网络的梯度如何随时间衰减或放大：逐滞后的精确测量。

Source: kexue.fm/archives/7888.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.lab.rnn_measured import (
    STEADY,
    CellGradients,
    kind_name,
    loss_gradients,
    measure_cell,
    measure_model,
)
from hanformer.models.recurrent_store import load_recurrent
from hanformer.nn.layers.recurrent.cell import RecurrentCell
from hanformer.nn.layers.recurrent.kinds import KINDS, make_cell
from hanformer.parsing.training import TASK
from hanformer.parsing.words import Words
from hanformer.train.runs import open_run

#: Beyond, products of matrices leave the range of numbers.
_MOST_GAIN = 1e6
#: Of new ON-LSTM cells.
_NEW_FORM = "su"
#: Characters of a text that a report shows.
_SHOWN = 120
#: Beyond, in absolute value, e^x is no number of float64.
_MOST_LOG = 700
_IN_CHINESE = {"vanishing": "消失", "steady": "平稳", "exploding": "爆炸"}


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


def new_cell(kind: str, size: int, gain: float) -> RecurrentCell:
    """A cell with orthogonal recurrent blocks, scaled by `gain`, and no biases; ON-LSTM in the form su.

    循环矩阵正交初始化的单元。
    """
    cell = make_cell(kind, size, size, form=_NEW_FORM)
    with torch.no_grad():
        for block in cell.recurrent.weight[-cell.gates * size :].split(size):
            nn.init.orthogonal_(block, gain)
        for linear in (cell.input, cell.recurrent):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
    return cell


def rnn_gradient_report(
    measured: Sequence[CellGradients],
    losses: Mapping[str, Tensor] | None = None,
    about: Sequence[str] = (),
) -> Report:
    """The measurements as tables and figures; `losses` are curves of `loss_gradients` by name, `about` says what was
    measured.

    把测量结果汇成表格与图。
    """
    products = {cell.name: cell.by_lag for cell in measured}
    tables = [
        _by_cell(measured),
        _at_lags("Norm of the product of Jacobians · 雅可比连乘的范数", products, 1),
    ]
    caption = "The norm of the product of Jacobians by lag. · 雅可比连乘的范数随间隔的变化。"
    pictures = [Picture("lags", caption, _draw(products, 1, "log10 of the norm"))]
    if losses:
        curves = {name: curve.log() for name, curve in losses.items()}
        tables.append(_at_lags("Gradient of the last word's loss · 末词损失的梯度范数", curves, 0))
        caption = (
            "The gradient of the last word's loss in the earlier states, by lag. · "
            "末词的损失对先前各状态的梯度范数随间隔的变化。"
        )
        pictures.append(Picture("losses", caption, _draw(curves, 0, "log10 of the gradient's norm")))
    return Report(
        "Gradients of recurrent networks · 循环网络的梯度",
        (*about, *_findings(measured)),
        tuple(tables),
        tuple(pictures),
    )


def _findings(measured: Sequence[CellGradients]) -> tuple[str, ...]:
    low, high = STEADY
    said = (
        f"A product of Jacobians whose factor a step is below {low:g} vanishes, above {high:g} it explodes.",
        f"雅可比连乘每步的倍数低于 {low:g} 为消失（vanishing），高于 {high:g} 为爆炸（exploding）。",
        "Norms of a step are geometric means, radii arithmetic ones. The exponents are ln of the product's norm and "
        "the mean of ln of all its singular values, divided by the steps.",
        "每步范数取几何平均，谱半径取算术平均；指数为连乘范数、以及全部奇异值几何平均的对数除以步数。",
    )
    left_out = (
        "In the paper's form of ON-LSTM the highest level is never written: its units of h and of c stay 0, nothing "
        "that is read reaches them, and they are left out of the state that is measured.",
        "论文形式的 ON-LSTM 中最高一级从不被写入：其 h、c 恒为 0，任何输入都到达不了，故不计入所测状态。",
    )
    return (
        *said,
        *(left_out if any(cell.left_out for cell in measured) else ()),
        *(line for cell in measured for line in _found(cell)),
    )


def _found(cell: CellGradients) -> tuple[str, str]:
    """What was found of one cell, in English and Chinese."""
    steps = len(cell.by_lag)
    product, apart = _number(float(cell.by_lag[-1])), _number(float(cell.norms.log().sum()))
    return (
        f"{cell.name}: {cell.verdict}; over {steps} steps the norm of the product of Jacobians is {product}, the "
        f"product of their norms {apart}.",
        f"{cell.name}：{_IN_CHINESE[cell.verdict]}；{steps} 步的雅可比连乘之范数为 {product}，各步范数之积为 {apart}。",
    )


def _number(log: float) -> str:
    """e^log, also where that is no number of float64."""
    if math.isfinite(log) and abs(log) > _MOST_LOG:
        return f"10^{log / math.log(10):.1f}"
    return f"{math.exp(log):.3g}"


def _by_cell(measured: Sequence[CellGradients]) -> Table:
    head = (
        "cell",
        "verdict",
        "growth a step",
        "norm of a step",
        "radius of a step",
        "largest exponent",
        "mean exponent",
        "main term",
        "state",
    )
    return Table("By cell · 各单元", head, tuple(_row(cell) for cell in measured))


def _row(cell: CellGradients) -> tuple[str, ...]:
    main = next(iter(cell.shares.items()), None)
    whole = f" of {cell.numbers + cell.left_out}" if cell.left_out else ""
    return (
        cell.name,
        cell.verdict,
        f"{cell.growth:.4f}",
        f"{float(cell.norms.log().mean().exp()):.3f}",
        f"{float(cell.radii.mean()):.3f}",
        f"{cell.largest_exponent:.4f}",
        f"{cell.mean_exponent:.4f}",
        "" if main is None else f"{main[0]} {main[1]:.0%}",
        f"{cell.numbers}{whole}",
    )


def _at_lags(title: str, curves: Mapping[str, Tensor], first: int) -> Table:
    """Curves of logarithms, which begin at the lag `first`, at a few lags."""
    last = first + max(map(len, curves.values())) - 1
    some = (0, *(digit * 10**power for power in range(len(str(last))) for digit in (1, 2, 5)))
    lags = [lag for lag in some if first <= lag <= last]
    rows = tuple(
        (name, *(_number(float(curve[lag - first])) for lag in lags)) for name, curve in curves.items()
    )
    return Table(title, ("lag", *map(str, lags)), rows)


def _draw(curves: Mapping[str, Tensor], first: int, what: str) -> object:
    """Curves of natural logarithms, which begin at the lag `first`, in powers of ten."""
    drawn = figure()
    axes = drawn.subplots()
    for name, curve in curves.items():
        axes.plot(range(first, first + len(curve)), (curve / math.log(10)).tolist(), label=name)
    axes.set_xlabel("lag in steps")
    axes.set_ylabel(what)
    axes.legend()
    tidy([axes])
    return drawn


def run(out: Path, options: Options) -> Report:
    """The experiment of the lab. 实验入口。"""
    return _of_run(options) if options.run else _of_new_cells(options)


def _of_new_cells(options: Options) -> Report:
    torch.manual_seed(options.seed)
    x = torch.randn(options.steps, options.size)
    cells = {kind_name(kind, _NEW_FORM): new_cell(kind, options.size, options.gain) for kind in options.kinds}
    about = (
        f"New cells of {options.size} units on {options.steps} steps of normal noise; orthogonal recurrent matrices "
        f"times {options.gain:g}, no biases; seed {options.seed}.",
        f"新建单元：宽 {options.size}，读入 {options.steps} 步正态噪声；循环矩阵为正交阵的 {options.gain:g} 倍，"
        f"无偏置；随机种子 {options.seed}。",
    )
    return rnn_gradient_report([measure_cell(name, cell, x) for name, cell in cells.items()], about=about)


def _of_run(options: Options) -> Report:
    folder, _ = open_run(options.run, TASK)
    model, words = load_recurrent(folder), Words.load(folder)
    if _is_file(options.text):
        raise UserError(f"text: {options.text} is a file, and the sentence itself is expected: text='...'")
    read = words.read(options.text)
    ids = [words.end_id, *words.ids(read), words.end_id]
    measured = measure_model(model, ids[:-1])
    curves = zip([cell.name for cell in measured], loss_gradients(model, ids), strict=True)
    return rnn_gradient_report(measured, dict(curves), _about(options.run, words, read))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a sentence may be no name of a file
        return False


def _about(run: str, words: Words, read: Sequence[str]) -> tuple[str, str]:
    """Which run read which text, in English and Chinese."""
    share = words.unknown_share([read])
    unknown = round(share * len(read))
    return (
        f"The run {run} reads <eos> and {len(read)} words, {unknown} of them ({share:.1%}) unknown to it, and the last "
        f"loss is that of the <eos> after them: {_shown(read)}",
        f"训练目录 {run} 读入 <eos> 与 {len(read)} 个词，其中 {unknown} 个（{share:.1%}）不在其词表中；"
        f"末词损失指其后 <eos> 的损失。文本：{_shown(read)}",
    )


def _shown(read: Sequence[str]) -> str:
    text = " / ".join(read)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
