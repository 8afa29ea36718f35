"""Options that several commands share, and how they prepare the machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.errors import UserError

if TYPE_CHECKING:
    import torch

#: An option of the panel of the machine.
_machine = partial(typer.Option, rich_help_panel="Machine · 运行环境")

Device = Annotated[str, _machine(help="auto, cpu or cuda[:number]. 运行设备。")]
Threads = Annotated[
    int | None,
    _machine(help="CPU threads; default: OMP_NUM_THREADS, else all cores. CPU 线程数，默认全部核心。"),
]
Precision = Annotated[
    str, _machine(help="auto (bf16 where the machine is fast at it), fp32, bf16 or fp16. 数值精度。")
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
            raise UserError(f"--set expects name=value, got {assignment!r}; for example --set seed=1")
        pairs[name.strip()] = value.strip()
    return pairs
