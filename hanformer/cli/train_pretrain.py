"""`hanformer train pretrain`: language models from plain text."""

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


def pretrain(
    out: Out,
    data: Annotated[
        str,
        typer.Option(
            help="A file of text or a folder of them: lines (a blank line parts documents), or columns of a table "
            "(--set text.columns=...); plain, .gz, .xz or .zip. 文本文件或文件夹。"
        ),
    ],
    valid: Annotated[
        Path | None, typer.Option(help="A file to choose by; else valid rows are held out. 验证文件。")
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
    """Pretrain a language model on text: masked (mlm), causal (lm) or mixed (unilm), new or continued.

    用文本预训练语言模型：掩码（mlm）、因果（lm）或混合（unilm）；可从已有模型继续。

    Example: hanformer train pretrain --data novels/ --out runs/encoder --set objective=mlm
    """
    from hanformer.tasks.pretrain.corpus import open_corpus
    from hanformer.tasks.pretrain.recipe import PretrainRecipe
    from hanformer.tasks.pretrain.training import train
    from hanformer.train.progress import reporter_for

    chosen = choose_recipe(
        PretrainRecipe(),
        recipe,
        assignments,
        tricks=tricks,
        average=average,
        optimizer=optimizer,
        tensorboard=tensorboard,
        start_from=start_from,
    )
    target = prepare_machine(device, threads)
    corpus = open_corpus(data, valid)
    typer.echo(f"{len(corpus.train)} files to train on, {len(corpus.valid)} to choose by")
    history = train(chosen, corpus, out, device=target, reporter=reporter_for(), resume=resume)
    best = min((record.metrics["loss"] for record in history.validations), default=float("nan"))
    typer.echo(f"best validation loss {best:.4f} a token; next: hanformer evaluate {out} --data {data}")
