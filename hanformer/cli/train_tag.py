"""`hanformer train tag`: words or named entities found in texts."""

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


def tag(
    out: Out,
    data: Annotated[
        str,
        typer.Option(
            help="A folder or zip with train, valid and test files, or one file: lines of words with blanks between, "
            "columns of tokens and tags, People's Daily word/tag lines, or JSON records. 标注数据。"
        ),
    ],
    scheme: Annotated[
        str | None, typer.Option(help="segmentation (the default) or entities. 分词或命名实体。")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="softmax, crf (the default), memm, global_pointer or efficient_global_pointer. 输出层。"
        ),
    ] = None,
    valid: Annotated[
        Path | None, typer.Option(help="A file to choose by; else valid texts are held out. 验证文件。")
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
    """Train a model that segments texts into words, or finds their named entities.

    训练序列标注模型：中文分词与命名实体识别。

    Example: hanformer train tag --scheme segmentation --head crf --data sxu/ --out runs/words
    """
    from hanformer.tasks.tag.data import open_tagged
    from hanformer.tasks.tag.recipe import TagRecipe
    from hanformer.tasks.tag.training import train
    from hanformer.train.progress import reporter_for

    chosen = choose_recipe(
        TagRecipe(),
        recipe,
        [
            *(f"{name}={word}" for name, word in (("scheme", scheme), ("head", head)) if word),
            *(assignments or []),
        ],
        tricks=tricks,
        average=average,
        optimizer=optimizer,
        tensorboard=tensorboard,
        start_from=start_from,
    )
    target = prepare_machine(device, threads)
    texts = open_tagged(
        data,
        chosen.reading,
        valid=chosen.valid,
        limit=chosen.limit,
        seed=chosen.train.seed,
        valid_file=valid,
    )
    typer.echo(f"{len(texts.train):,} texts to train on, {len(texts.valid):,} to choose by")
    history = train(chosen, texts, out, device=target, reporter=reporter_for(), resume=resume)
    best = max((record.metrics["f1"] for record in history.validations), default=0.0)
    typer.echo(f"best validation F1 {best:.2%}; next: hanformer evaluate {out} --data {data}")
