"""`hanformer demo`: the main job from beginning to end, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import Device, Threads, prepare_machine

SHOWN = 8


def demo(
    out: Annotated[
        Path, typer.Option(help="The run folder to write; an earlier demo there is replaced. 输出目录。")
    ] = Path("runs/demo"),
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train on generated problems, evaluate by type, solve unseen problems, and write a report.

    在生成的应用题上训练、按题型评测、解几道没见过的题，并写出报告。
    """
    from hanformer.arithmetic.data_sets import open_data
    from hanformer.arithmetic.evaluation import evaluate
    from hanformer.arithmetic.recipe import DEMO
    from hanformer.arithmetic.report import Report, accuracy_table, solved_text, write_report
    from hanformer.arithmetic.training import discard_run, load_solver, train
    from hanformer.train.progress import reporter_for

    target = prepare_machine(device, threads)
    discard_run(out)
    data = open_data("generated", seed=DEMO.train.seed, count=DEMO.generated, valid=DEMO.valid)
    typer.echo(f"Training a Transformer from scratch on {len(data.train):,} generated word problems.")
    history = train(DEMO, data, out, device=target, reporter=reporter_for())
    solver = load_solver(out, beams=3, device=str(target))
    evaluations = {title: evaluate(solver, problems) for title, problems in data.tests.items()}
    for title, evaluation in evaluations.items():
        typer.echo(accuracy_table(title, evaluation))
    typer.echo(solved_text(evaluations, SHOWN))
    page = out / "report.html"
    write_report(
        page, Report(title="Chinese word problems", run=out, history=history, evaluations=evaluations)
    )
    typer.echo(f'report: {page}\nnext: source .venv/bin/activate, then hanformer solve {out} "题目"')
