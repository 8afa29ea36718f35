"""`hanformer train seq2seq`: texts rewritten as other texts."""

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


def seq2seq(
    out: Out,
    data: Annotated[
        str,
        typer.Option(
            help="A folder with train, valid and test files, or one file: tab-separated (the last two columns), CSV or "
            "JSON records with source and target. 文本对数据。"
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
    """Train a model that writes a text for a text: translation, summaries, titles, questions.

    训练序列到序列模型：翻译、摘要、标题、问题生成。

    Example: hanformer train seq2seq --data pairs/ --out runs/translator --set architecture=encoder_decoder
    """
    from hanformer.tasks.seq2seq.pairs import open_pairs
    from hanformer.tasks.seq2seq.recipe import Seq2SeqRecipe
    from hanformer.tasks.seq2seq.training import train
    from hanformer.train.progress import reporter_for

    chosen = choose_recipe(
        Seq2SeqRecipe(),
        recipe,
        assignments,
        tricks=tricks,
        average=average,
        optimizer=optimizer,
        tensorboard=tensorboard,
        start_from=start_from,
    )
    target = prepare_machine(device, threads)
    pairs = open_pairs(
        data,
        source=chosen.source,
        target=chosen.target,
        valid=chosen.valid,
        limit=chosen.limit,
        seed=chosen.train.seed,
        valid_file=valid,
    )
    typer.echo(f"{len(pairs.train):,} pairs to train on, {len(pairs.valid):,} to choose by")
    history = train(chosen, pairs, out, device=target, reporter=reporter_for(), resume=resume)
    best = min((record.metrics["loss"] for record in history.validations), default=float("nan"))
    typer.echo(f"best validation loss {best:.4f} a token; next: hanformer evaluate {out} --data {data}")
