"""`hanformer train`: one command a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import Data, Device, Threads, prepare_machine, read_assignments
from hanformer.cli.train_chat import chat
from hanformer.cli.train_classify import classify
from hanformer.cli.train_pair import pair
from hanformer.cli.train_pretrain import pretrain
from hanformer.cli.train_recurrent import recurrent
from hanformer.cli.train_seq2seq import seq2seq
from hanformer.cli.train_tag import tag

app = typer.Typer(help="Train a model for a task. 训练模型。", no_args_is_help=True)


@app.callback()
def tasks() -> None:
    """Train a model for a task. 训练模型。"""


@app.command("arithmetic")
def arithmetic(
    out: Annotated[Path, typer.Option(help="The run folder to write. 输出的运行目录。")],
    data: Data = "generated",
    recipe: Annotated[str, typer.Option(help="A preset: default or demo. 预设配方。")] = "default",
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change one choice of the recipe: --set train.epochs=20. 修改配方中的一项。"
        ),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="A pretrained model folder to fine-tune (raw layout). 要微调的预训练模型文件夹。"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was cut. 继续被中断的训练。")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a Transformer to solve Chinese arithmetic word problems.

    训练解中文算术应用题的 Transformer。

    Example: hanformer train arithmetic --data math23k/ --out runs/math23k
    """
    from hanformer.arithmetic import recipe as recipes
    from hanformer.arithmetic.data_sets import open_data
    from hanformer.arithmetic.training import train
    from hanformer.errors import UserError
    from hanformer.train.progress import reporter_for

    if recipe not in recipes.RECIPES:
        raise UserError(f"--recipe: expected one of {', '.join(recipes.RECIPES)}, got {recipe!r}")
    chosen = recipes.RECIPES[recipe].changed(read_assignments(assignments or []))
    target = prepare_machine(device, threads)
    problems = open_data(data, seed=chosen.train.seed, count=chosen.generated, valid=chosen.valid)
    typer.echo(
        f"{len(problems.train)} problems to train on, {len(problems.valid)} to choose by, "
        f"{problems.dropped} dropped by cleaning"
    )
    history = train(
        chosen, problems, out, device=target, reporter=reporter_for(), resume=resume, start_from=start_from
    )
    best = max((record.metrics.get("accuracy", 0.0) for record in history.validations), default=0.0)
    typer.echo(f"best validation accuracy {best:.1%}; next: hanformer evaluate {out} --data {data}")


app.command("classify")(classify)
app.command("pair")(pair)
app.command("seq2seq")(seq2seq)
app.command("tag")(tag)
app.command("recurrent")(recurrent)
app.command("pretrain")(pretrain)
app.command("chat")(chat)
