"""`hanformer train classify`: texts with one label or many."""

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


def classify(
    out: Out,
    data: Annotated[
        str,
        typer.Option(
            help="A folder or zip with train, valid and test files, or one file: tab-separated, CSV or JSON records, "
            "with a text and a label. 带标签的文本数据。"
        ),
    ],
    valid: Annotated[
        Path | None, typer.Option(help="A file to choose by; else valid rows are held out. 验证文件。")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy or focal (one label); zlpr, sigmoid or sigmoid_focal (many). 损失，决定单标签或多标签。"
        ),
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Texts without labels, for virtual adversarial training. 无标签文本（半监督）。"),
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
    """Train a model that names the label of a text, or its labels: sentiment, topics, events.

    训练文本分类模型（单标签或多标签）：情感、主题、事件。

    Example: hanformer train classify --data sentiment.zip --out runs/sentiment --trick fgm --average ema
    """
    from hanformer.tasks.classify.recipe import ClassifyRecipe
    from hanformer.tasks.classify.texts import open_texts
    from hanformer.tasks.classify.training import train
    from hanformer.train.progress import reporter_for

    named = {"loss": loss, "unlabelled": unlabelled}
    chosen = choose_recipe(
        ClassifyRecipe(),
        recipe,
        [*(f"{name}={value}" for name, value in named.items() if value), *(assignments or [])],
        tricks=tricks,
        average=average,
        optimizer=optimizer,
        tensorboard=tensorboard,
        start_from=start_from,
    )
    target = prepare_machine(device, threads)
    texts = open_texts(data, chosen, valid_file=valid)
    typer.echo(
        f"{len(texts.train):,} texts to train on, {len(texts.valid):,} to choose by, {len(texts.names)} classes"
        + (f", {len(texts.unlabelled):,} texts without labels" if texts.unlabelled else "")
    )
    history = train(chosen, texts, out, device=target, reporter=reporter_for(), resume=resume)
    best = max((record.metrics["micro_f1"] for record in history.validations), default=float("nan"))
    typer.echo(f"best validation micro-F1 {best:.2%}; next: hanformer evaluate {out} --data {data}")
