"""`hanformer evaluate`: how good a run is, on data that it has not seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import Beams, Beside, Device, Precision, Threads, prepare_machine


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder. 运行目录。")],
    data: Annotated[
        str,
        typer.Option(
            help="A test file, or a folder or zip with one, of the kind the run was trained on; for word problems also "
            "generated. 测试数据；应用题可用 generated 。"
        ),
    ] = "generated",
    beams: Beams = 3,
    beside: Beside = None,
    without: Annotated[
        Path | None,
        typer.Option(help="Leave out problems that also stand in this data set. 去掉其中也有的题目。"),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            help="Judge so many rows, spread evenly: tasks that write texts take long. 只评测均匀抽取的若干行。"
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            help="Tokens of a row, other than in training (pretrained models). 预训练：每行词元数。"
        ),
    ] = None,
    voting: Annotated[
        bool,
        typer.Option(
            help="Candidates of equal value add up their probabilities (word problems). 取值相同的候选概率相加。"
        ),
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="Write every example with its result as JSON lines. 逐例结果。")
    ] = None,
    figures: Annotated[
        bool,
        typer.Option("--json", help="Print nothing but the figures, as one JSON object. 只输出 JSON 指标。"),
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> None:
    """Judge a trained run of any task on data it has not seen.

    评测训练好的模型（任何任务）。

    Word problems: an answer is right when it equals the given one to 6 decimals or to a relative 1e-4; a problem that
    cannot be read or solved counts as wrong. What other tasks measure stands in docs/tasks.md.
    """
    from hanformer.errors import UserError
    from hanformer.tasks.serving import ServingOptions, check_data, open_service

    if out is not None and not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or choose another place")
    check_data(run, data)
    target = prepare_machine(device, threads)
    options = ServingOptions(beams, str(target), precision, tuple(beside or ()), rows, length, voting)
    service = open_service(run, options)
    found = service.evaluate(data, without)
    typer.echo(json.dumps(dict(found.figures)) if figures else found.text)
    if out is not None:
        from hanformer.weights.atomic import write_text

        write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows))
