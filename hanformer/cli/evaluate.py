"""`hanformer evaluate`: how many problems a run solves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import Beams, Data, Device, Precision, Threads, prepare_machine


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder. 运行目录。")],
    data: Data = "generated",
    beams: Beams = 3,
    without: Annotated[
        Path | None,
        typer.Option(
            help="Leave out problems that also stand in this data set. 去掉同时出现在该数据集中的题目。"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write every problem with its solution as JSON lines. 逐题结果。")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> None:
    """Judge a trained run on problems it has not seen, in all and by type.

    评测训练好的模型，按题型列出正确率。

    An answer is right when it equals the given one to 6 decimals or to a relative 1e-4; a problem that cannot be
    read or solved counts as wrong.
    """
    from hanformer.arithmetic.data_sets import all_problems, problems_to_judge
    from hanformer.arithmetic.evaluation import evaluate as judge
    from hanformer.arithmetic.overlap import without_copies
    from hanformer.arithmetic.report import accuracy_table, judged_rows
    from hanformer.arithmetic.training import load_solver
    from hanformer.errors import UserError

    if out is not None and not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or choose another place")
    target = prepare_machine(device, threads)
    solver = load_solver(run, beams=beams, device=str(target), precision=precision)
    rows = []
    seen = [] if without is None else all_problems(without)
    for title, problems in problems_to_judge(data).items():
        problems = without_copies(problems, seen)
        if not problems:
            raise UserError(f"{title}: no problem is left to judge on; choose other data for --without")
        evaluation = judge(solver, problems)
        typer.echo(accuracy_table(f"{title}, beam {beams}", evaluation))
        rows += judged_rows(title, evaluation)
    if out is not None:
        from hanformer.weights.atomic import write_text

        write_text(out, "".join(rows))
