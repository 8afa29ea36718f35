"""Experiments that are short, seeded and end in a figure: a table of names, and how one is run.

实验室：简短、固定种子、以图收尾的小实验。

To add one, write a module with a frozen record `Options` and a function `run(out, options) -> Report`, and a line in
EXPERIMENTS: modules are imported when their experiment is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from hanformer.errors import UserError
from hanformer.lab.report import Report, check_report, write_report
from hanformer.records import assign, shown


@dataclass(frozen=True)
class Experiment:
    """What an experiment shows, in English and Chinese, and where it stands: "module:function".

    一个实验：中英文说明与所在位置。
    """

    english: str
    chinese: str
    target: str


EXPERIMENTS: dict[str, Experiment] = {
    "attention": Experiment(
        "One small encoder with each mechanism of attention: quality, time and memory against length.",
        "同一小型编码器配不同注意力机制：质量、时间、显存与长度的关系。",
        "hanformer.lab.attention:run",
    ),
    "batchnorm": Experiment(
        "A small network trained with batch normalisation and without: the loss along its gradient, and the bound.",
        "同一小网络加与不加批归一化：损失沿梯度方向的形状与上界。",
        "hanformer.lab.batchnorm:run",
    ),
    "gelu": Experiment(
        "Both constants of the approximations of GELU, found by least maximum error, and their errors.",
        "按最小化最大误差求出 GELU 两种近似的常数，并画出误差。",
        "hanformer.lab.gelu:run",
    ),
    "positions": Experiment(
        "Inner products of sinusoidal positions and the decay of rotary ones.",
        "正弦位置的内积与旋转位置的远程衰减。",
        "hanformer.lab.positions:run",
    ),
    "rare-features": Experiment(
        "What each update rule does with a weight whose first gradient comes late, such as a rare word's.",
        "各更新规则如何对待首个梯度很晚才到的参数，例如稀有词。",
        "hanformer.lab.rare_features:run",
    ),
    "rnn-gradients": Experiment(
        "How far gradients reach back in an RNN, LSTM, GRU and their kin: exact Jacobians, norms by lag.",
        "RNN、LSTM、GRU 等的梯度能回传多远：精确雅可比与各步长的范数。",
        "hanformer.lab.rnn_gradients:run",
    ),
    "taylor": Experiment(
        "Even Taylor polynomials of exp: why they never reach 0, their minima, and the weights they give.",
        "exp 的偶数阶泰勒多项式：为何恒为正、最小值，以及由它得到的权重。",
        "hanformer.lab.taylor:run",
    ),
}


def run_experiment(name: str, out: str | Path, assignments: Mapping[str, object] | None = None) -> Report:
    """Runs an experiment and writes its page, `report.html`, and its figures into a folder.

    运行一个实验，把网页与图写入文件夹。

    `assignments` change the experiment's options by name. Raises UserError for an unknown experiment or option, and,
    before the experiment begins, where its report could not be drawn or written.
    """
    room, function = _room_of(name)
    options = assign(room.Options(), {key: shown(value) for key, value in (assignments or {}).items()})
    check_report(Path(out))
    report: Report = getattr(room, function)(Path(out), options)
    write_report(Path(out), report)
    return report


def reads_text(name: str) -> bool:
    """Whether an experiment has the option `data`; raises UserError for an unknown one. 实验是否读取文本文件。"""
    return "data" in {entry.name for entry in fields(_room_of(name)[0].Options)}


def _room_of(name: str) -> tuple[Any, str]:
    """The module of an experiment, and its function there."""
    if name not in EXPERIMENTS:
        raise UserError(f"lab: expected one of {', '.join(sorted(EXPERIMENTS))}, got {name!r}")
    module, _, function = EXPERIMENTS[name].target.partition(":")
    return import_module(module), function
