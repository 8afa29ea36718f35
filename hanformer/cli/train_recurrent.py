"""`hanformer train recurrent`: a recurrent language model on running text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import Device, Threads, prepare_machine, read_assignments


def recurrent(
    out: Annotated[Path, typer.Option(help="The run folder to write. 输出的运行目录。")],
    data: Annotated[
        Path,
        typer.Option(
            help="Running text: a folder or zip with files named train, valid and test, or one file. "
            "连续文本：含 train、valid、test 的文件夹或 zip，或单个文件。"
        ),
    ],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one choice: --set model.kind=lstm. 修改配方中的一项。"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut. 继续被中断的训练。")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a recurrent language model, an ON-LSTM unless said otherwise.

    训练循环语言模型（默认 ON-LSTM）。

    Example: hanformer train recurrent --data ptb.zip --out runs/onlstm --set train.epochs=20
    """
    from hanformer.parsing.evaluation import measure_text
    from hanformer.parsing.training import RecurrentRecipe, train_recurrent
    from hanformer.records import assign
    from hanformer.train.progress import reporter_for

    recipe = assign(RecurrentRecipe(), read_assignments(assignments or []))
    target = prepare_machine(device, threads)
    train_recurrent(recipe, data, out, device=target, reporter=reporter_for(), resume=resume)
    found = measure_text(out, data, device=target)
    said = ", ".join(f"{part} {value:.2f}" for part, value in found.items())
    typer.echo(f'perplexity: {said}; next: hanformer parse --model {out} "a sentence"')
