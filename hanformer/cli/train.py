"""`hanformer train`: one command a task."""

from __future__ import annotations

from typing import Final

import typer

from hanformer.cli.command import add_command
from hanformer.cli.train_arithmetic import Arithmetic
from hanformer.cli.train_chat import Chat
from hanformer.cli.train_classify import Classify
from hanformer.cli.train_pair import Pair
from hanformer.cli.train_pretrain import Pretrain
from hanformer.cli.train_recurrent import Recurrent
from hanformer.cli.train_seq2seq import Seq2Seq
from hanformer.cli.train_tag import Tag
from hanformer.cli.training import Training

TASKS: Final[dict[str, type[Training]]] = {
    "arithmetic": Arithmetic,
    "classify": Classify,
    "pair": Pair,
    "seq2seq": Seq2Seq,
    "tag": Tag,
    "recurrent": Recurrent,
    "pretrain": Pretrain,
    "chat": Chat,
}
"""Every task that can be trained, by its name. 可训练的任务。"""

app = typer.Typer(help="Train a model for a task. 训练模型。", no_args_is_help=True)


@app.callback()
def tasks() -> None:
    """Train a model for a task. 训练模型。"""


for _name, _task in TASKS.items():
    add_command(app, _name, _task)
