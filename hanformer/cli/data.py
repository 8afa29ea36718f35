"""`hanformer data`: look at data before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.command import add_command

app = typer.Typer(help="Look at data sets. 查看数据集。", no_args_is_help=True)


@app.callback()
def verbs() -> None:
    """Look at data sets. 查看数据集。"""


def check(
    path: Annotated[
        Path,
        typer.Argument(help="A published Math23K or Ape210k file, or a folder of them. 数据文件或文件夹。"),
    ],
) -> None:
    """Count the usable problems of a file, and list each dropped row with its reason.

    统计可用题目数，并列出每一条被剔除的数据及原因。
    """
    from hanformer.arithmetic.cleaning import clean_all
    from hanformer.arithmetic.data_sets import all_problems
    from hanformer.arithmetic.expression import excerpt

    problems = all_problems(path)
    cleaning = clean_all(problems)
    for dropped in cleaning.dropped:
        typer.echo(
            f"dropped {dropped.id}: {dropped.reason}: {excerpt(dropped.row.equation)} -> {dropped.row.answer}"
        )
    typer.echo(
        f"{path}: kept {len(cleaning.originals):,} of {len(problems):,} problems, dropped {len(cleaning.dropped)}"
    )


def coverage(
    path: Annotated[
        Path,
        typer.Argument(help="A published Math23K or Ape210k file, or a folder of them. 数据文件或文件夹。"),
    ],
) -> None:
    """Count what slots and constants can express, and the answers that would be written as published.

    统计槽位与常数能表达的题目，以及与公布答案写法相同的答案。
    """
    from hanformer.arithmetic.coverage import cover
    from hanformer.arithmetic.splits import read_split

    for part, found in cover(read_split(path)).items():
        typer.echo(f"{part}: {found.problems:,} problems, {found.kept:,} usable")
        for line in found.lines():
            typer.echo(line)


def text(
    sources: Annotated[
        Path,
        typer.Argument(
            help="What to gather (TOML): a table for each source, with files = [patterns], text.columns, "
            "text.group, text.documents or dialogues = true. 来源清单。"
        ),
    ],
    data: Annotated[Path, typer.Option(help="The folder that the patterns are relative to. 数据文件夹。")],
    out: Annotated[Path, typer.Option(help="The file to write, packed if it ends in .gz. 输出文件。")],
) -> None:
    """Gather text of many files and forms into one corpus for `hanformer train pretrain`, no document twice.

    把多种格式的文件汇集为一个预训练语料，去除重复文档。

    Example: hanformer data text examples/small_encoder_text.toml --data DATA --out corpus.txt.gz
    """
    from hanformer.tasks.pretrain.gathering import gather, read_sources

    total = 0
    for found in gather(read_sources(sources), data, out):
        typer.echo(
            f"{found.name}: {found.documents:,} documents, {found.characters:,} characters; "
            f"{found.repeated:,} documents repeated, left out"
        )
        total += found.characters
    typer.echo(f"{out}: {total:,} characters; next: hanformer train pretrain --data {out} --out runs/encoder")


def generate(
    count: Annotated[int, typer.Argument(min=1, help="How many problems. 题目数量。")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same problems. 随机种子。")] = 0,
    split: Annotated[
        str, typer.Option(help="train, unseen_numbers or unseen_wordings. 题目划分。")
    ] = "train",
) -> None:
    """Print problems of the embedded generator as JSON lines.

    以 JSON 行输出内置生成器的题目。
    """
    import json
    from dataclasses import asdict

    from hanformer.arithmetic.generated import generate as draw
    from hanformer.errors import UserError

    splits = ("train", "unseen_numbers", "unseen_wordings")
    if split not in splits:
        raise UserError(f"--split: expected one of {', '.join(splits)}, got {split!r}")
    for problem in draw(count, seed, split):  # type: ignore[arg-type]
        typer.echo(json.dumps(asdict(problem), ensure_ascii=False))


add_command(app, "check", check)
add_command(app, "coverage", coverage)
add_command(app, "text", text)
add_command(app, "generate", generate)
