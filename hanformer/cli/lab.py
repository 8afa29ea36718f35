"""`hanformer lab`: short experiments that end in a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import Threads, prepare_machine, read_assignments


def lab(
    name: Annotated[
        str | None,
        typer.Argument(help="An experiment; without one, all are listed. 实验名称，省略则列出全部。"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write; default: runs/lab/NAME. 输出目录。")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Text, for experiments that read some: --set data=PATH. 供读取文本的实验使用。"),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the experiment, name=value; repeatable. 设置实验选项。"),
    ] = None,
    threads: Threads = None,
) -> None:
    """Run a short experiment of the laboratory, and write its figures as one HTML page.

    运行实验室中的一个小实验，把图写成一个网页。

    Example: hanformer lab gelu --out runs/gelu
    """
    from hanformer.errors import UserError
    from hanformer.lab import EXPERIMENTS, reads_text, run_experiment
    from hanformer.lab.report import PAGE_FILE

    if name is None:
        if assignments or out is not None or data is not None:
            raise UserError(f"name the experiment first: one of {', '.join(EXPERIMENTS)}")
        for known, experiment in EXPERIMENTS.items():
            typer.echo(f"{known:16}{experiment.english}\n{'':16}{experiment.chinese}")
        return
    if data is not None and not reads_text(name):
        raise UserError(f"--data: {name} reads no text; leave it out")
    given = read_assignments([*(assignments or []), *([] if data is None else [f"data={data}"])])
    prepare_machine("cpu", threads)
    folder = Path("runs/lab") / name if out is None else out
    typer.echo(run_experiment(name, folder, given).text())
    typer.echo(f"report: {folder / PAGE_FILE}")
