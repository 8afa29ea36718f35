"""Options that several commands share, and how they prepare the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hanformer.errors import UserError

if TYPE_CHECKING:
    import torch

    from hanformer.tasks.text_recipe import TextRecipe

RecipeT = TypeVar("RecipeT", bound="TextRecipe")

Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:number]. 运行设备。")]
Threads = Annotated[
    int | None,
    typer.Option(help="CPU threads; default: OMP_NUM_THREADS, else all cores. CPU 线程数，默认全部核心。"),
]
Precision = Annotated[
    str, typer.Option(help="auto (bf16 where the machine is fast at it), fp32, bf16 or fp16. 数值精度。")
]
Beams = Annotated[int, typer.Option(min=1, max=64, help="Width of the beam; 1 is greedy. 束宽，1 为贪心。")]
Data = Annotated[
    str,
    typer.Option(
        help='"generated" (the embedded generator), or the path of published Math23K or Ape210k files. '
        "内置生成器 generated，或数据文件、文件夹的路径。"
    ),
]


Beside = Annotated[
    list[Path] | None,
    typer.Option("--with", help="A further run that votes with it (word problems). 一起投票的其他运行目录。"),
]


def prepare_machine(device: str, threads: int | None) -> torch.device:
    """Threads, allocator and device, as every command sets them. 设置线程、内存分配器与设备。"""
    from hanformer import runtime

    runtime.set_threads(threads)
    runtime.tune_cpu_unless_disabled()
    return runtime.choose_device(device)


def read_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """`name=value` strings as a mapping. 解析“名称=值”。"""
    pairs = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise UserError(f"--set expects name=value, got {assignment!r}; for example --set sizes.layers=4")
        pairs[name.strip()] = value.strip()
    return pairs


Out = Annotated[Path, typer.Option(help="The run folder to write. 输出的运行目录。")]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", help="A recipe (TOML), or the run.toml of an earlier run. 配方文件。"),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one choice of the recipe: --set train.epochs=20. 修改配方中的一项。"),
]
Tricks = Annotated[
    list[str] | None,
    typer.Option(
        "--trick",
        help="Wrap the objective: --trick r_drop:4 --trick fgm, the first outermost. 训练技巧，可叠加。",
    ),
]
Average = Annotated[str | None, typer.Option(help="Averaging of weights: none, ema or last. 权重平均。")]
Optimizer = Annotated[str | None, typer.Option(help="An update rule, such as adamw or adax. 优化器。")]
StartFrom = Annotated[
    str | None,
    typer.Option(help="A pretrained model to fine-tune: a folder or a hub id. 要微调的预训练模型。"),
]
TensorBoard = Annotated[
    str | None,
    typer.Option("--tensorboard", help="A folder for TensorBoard's curves. TensorBoard 曲线的输出目录。"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut. 继续被中断的训练。")]


def choose_recipe(
    default: RecipeT,
    recipe: Path | None,
    assignments: Sequence[str] | None,
    *,
    tricks: Sequence[str] | None = None,
    average: str | None = None,
    optimizer: str | None = None,
    tensorboard: str | None = None,
    start_from: str | None = None,
) -> RecipeT:
    """The recipe of a command: a file, then the options with names of their own, then `--set`.

    命令所用的配方：先读文件，再按各选项与 --set 修改。
    """
    from hanformer.tasks.text_recipe import read_recipe, with_tricks

    chosen = default if recipe is None else read_recipe(default, recipe)
    named = {
        "train.average": average,
        "train.tensorboard": tensorboard,
        "optimizer": optimizer,
        "start_from": start_from,
    }
    chosen = with_tricks(chosen, tricks or ())
    return chosen.changed(
        {**{name: value for name, value in named.items() if value}, **read_assignments(assignments or [])}
    )
