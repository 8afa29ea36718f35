"""`hanformer train chat`: dialogues of any number of turns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import (
    Assignments,
    Average,
    Device,
    Optimizer,
    Out,
    RecipeFile,
    Resume,
    StartFrom,
    TensorBoard,
    Threads,
    Tricks,
    choose_recipe,
    prepare_machine,
)


def chat(
    out: Out,
    data: Annotated[
        str,
        typer.Option(
            help="A folder with train, valid and test files, or one file: JSON lists of utterances (LCCC), turns "
            "between tabs, or the Egret corpus. 对话数据。"
        ),
    ],
    valid: Annotated[
        Path | None, typer.Option(help="A file to choose by; else valid dialogues are held out. 验证文件。")
    ] = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    tricks: Tricks = None,
    average: Average = None,
    optimizer: Optimizer = None,
    tensorboard: TensorBoard = None,
    start_from: StartFrom = None,
    resume: Resume = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a model that talks: each turn of a dialogue from all turns before it.

    训练多轮对话模型：由此前各轮生成下一轮。

    Example: hanformer train chat --data dialogues.json.gz --out runs/chat --set layout=alternating
    """
    from hanformer.chat.data import open_dialogues
    from hanformer.chat.recipe import ChatRecipe
    from hanformer.chat.training import train
    from hanformer.train.progress import reporter_for

    chosen = choose_recipe(
        ChatRecipe(),
        recipe,
        assignments,
        tricks=tricks,
        average=average,
        optimizer=optimizer,
        tensorboard=tensorboard,
        start_from=start_from,
    )
    target = prepare_machine(device, threads)
    dialogues = open_dialogues(
        data, valid=chosen.valid, limit=chosen.limit, seed=chosen.train.seed, valid_file=valid
    )
    typer.echo(f"{len(dialogues.train):,} dialogues to train on, {len(dialogues.valid):,} to choose by")
    history = train(chosen, dialogues, out, device=target, reporter=reporter_for(), resume=resume)
    best = min((record.metrics["loss"] for record in history.validations), default=float("nan"))
    typer.echo(f"best validation loss {best:.4f} a token; next: hanformer chat {out}")
