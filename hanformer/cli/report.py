"""`hanformer report`: a training run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="The run folder of any task. 任一任务的训练目录。")],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write; default: report/ in the run folder. 输出目录。"),
    ] = None,
) -> None:
    """Write the curves, the choices and the best validation of a training run as one HTML page.

    把一次训练的曲线、选项与最佳验证结果写成一个网页。

    Example: hanformer report runs/translator
    """
    from hanformer.lab.run_report import report_run

    typer.echo(f"report: {report_run(run, out)}")
