"""`hanformer compare`: one training with one choice changed at a time, over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer


def compare(
    file: Annotated[
        Path, typer.Argument(help="What is compared (TOML); experiments/ has some. 对比实验文件。")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder of all runs; default: runs/compare/NAME. It may be gone on with. 输出目录，可续做。"
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The folder that {data} in the file stands for. 数据文件夹。")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="A variant to run, or with --table to report; repeatable. 只运行（或汇总）某个变体，可重复。"
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="A seed instead of the file's; repeatable. 随机种子。")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda[:number]. 运行设备。")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads of every run. 每次训练的线程数。")] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Run nothing: report what is done. 不训练，只汇总已有结果。")
    ] = False,
) -> None:
    """Train every variant of a recipe with every seed, judge them all, and report means, spreads and curves.

    对每个变体、每个随机种子训练并评测，给出均值、标准差与曲线。

    What is done is kept: the same command goes on after an interruption. Example: hanformer compare
    experiments/sentiment.toml --data DATA
    """
    from dataclasses import replace

    from hanformer.errors import UserError
    from hanformer.lab.comparing import check_variants, read_results, run_comparison
    from hanformer.lab.comparison import Places, read_comparison
    from hanformer.lab.comparison_report import markdown, report_of
    from hanformer.lab.report import write_report
    from hanformer.weights.atomic import write_text

    comparison = read_comparison(file)
    if data is not None and not data.is_dir():
        raise UserError(f"--data: {data} is no folder; expected the one that holds the data sets")
    comparison = replace(comparison, seeds=tuple(seeds) if seeds else comparison.seeds)
    places = Places(Path("runs/compare") / file.stem if out is None else out, data)
    check_variants(comparison, only or ())
    if not table:
        extra = ["--device", device, *([] if threads is None else ["--threads", str(threads)])]
        run_comparison(comparison, places, only or (), extra=extra, check=_check, said=typer.echo)
    results = read_results(comparison, places, (only or ()) if table else ())
    if not results:
        raise UserError(f"{places.out}: nothing is done yet; leave out --table to begin")
    report = report_of(comparison, places, results)
    page = write_report(places.out, report)
    write_text(places.out / "table.md", markdown(report.tables[0]))
    typer.echo(report.text())
    typer.echo(f"report: {page}")


def _check(words: Sequence[str]) -> None:
    """Raises UserError where a command would refuse its options, or a training the recipe that they make."""
    from hanformer.cli import app
    from hanformer.cli.command import read_command
    from hanformer.cli.training import Training
    from hanformer.models.checkpoint import open_checkpoint
    from hanformer.train.sizes import ShapedRecipe
    from hanformer.weights.embedded import is_embedded

    asked = read_command(app, words)
    recipe = asked.choose() if isinstance(asked, Training) else None
    if not isinstance(recipe, ShapedRecipe) or not recipe.start_from:
        return
    start = recipe.start_from
    # What is prepared first is not there yet.
    if is_embedded(start) or Path(start).exists():
        recipe.check_start(open_checkpoint(start).config({}))
