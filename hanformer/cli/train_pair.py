"""`hanformer train pair`: the class of two texts, or how alike they are."""

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


def pair(
    out: Out,
    data: Annotated[
        str,
        typer.Option(
            help="A folder or zip with train, valid and test files, or one file: tab-separated, CSV or JSON records, "
            "with two texts and a label. 文本对数据。"
        ),
    ],
    valid: Annotated[
        Path | None, typer.Option(help="A file to choose by; else valid rows are held out. 验证文件。")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy or focal (the class of two texts read together); cosent, simbert or simcse (the cosine "
            "of two texts read apart). 损失，决定分类或相似度。"
        ),
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
    """Train a model of pairs of texts: inference, the same question or not, similarity, retrieval.

    训练文本对模型：推理、同义判断、相似度、检索。

    Example: hanformer train pair --data LCQMC/ --out runs/lcqmc --loss cosent
    """
    from hanformer.tasks.pair.recipe import PairRecipe
    from hanformer.tasks.pair.rows import open_pairs
    from hanformer.tasks.pair.training import train
    from hanformer.train.progress import reporter_for

    chosen = choose_recipe(
        PairRecipe(),
        recipe,
        [*([f"loss={loss}"] if loss else []), *(assignments or [])],
        tricks=tricks,
        average=average,
        optimizer=optimizer,
        tensorboard=tensorboard,
        start_from=start_from,
    )
    target = prepare_machine(device, threads)
    pairs = open_pairs(data, chosen, valid_file=valid)
    typer.echo(
        f"{len(pairs.train):,} pairs to train on, {len(pairs.valid):,} to choose by"
        + (f", {pairs.left_out:,} left out without the label they need" if pairs.left_out else "")
    )
    history = train(chosen, pairs, out, device=target, reporter=reporter_for(), resume=resume)
    best = max((record.metrics["score"] for record in history.validations), default=float("nan"))
    measure = "Spearman correlation" if chosen.compares else "accuracy"
    typer.echo(f"best validation {measure} {best:.4f}; next: hanformer evaluate {out} --data {data}")
