"""`hanformer train chat`: dialogues of any number of turns."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.training import TextTraining

if TYPE_CHECKING:
    from hanformer.chat.recipe import ChatRecipe


@dataclass(frozen=True, kw_only=True)
class Chat(TextTraining):
    """Train a model that talks: each turn of a dialogue from all turns before it.

    训练多轮对话模型：由此前各轮生成下一轮。

    Example: hanformer train chat --data dialogues.json.gz --out runs/chat --set layout=alternating
    """

    data: Annotated[
        str,
        typer.Option(
            help="A folder with train, valid and test files, or one file: JSON lists of utterances (LCCC), turns "
            "between tabs, or the Egret corpus. 对话数据。"
        ),
    ]
    valid: Annotated[
        Path | None, typer.Option(help="A file to choose by; else valid dialogues are held out. 验证文件。")
    ] = None

    def choose(self) -> "ChatRecipe":
        """The recipe that the options stand for. 由选项得到配方。"""
        from hanformer.chat.recipe import ChatRecipe

        return self.chosen(ChatRecipe())

    def __call__(self) -> None:
        from hanformer.chat.training import train
        from hanformer.data.dialogues import open_dialogues

        recipe = self.choose()
        device = self.machine(recipe.start_from, recipe.check_start)
        dialogues = open_dialogues(
            self.data,
            valid=recipe.valid,
            limit=recipe.limit,
            seed=recipe.train.seed,
            valid_file=recipe.valid_file or None,
        )
        typer.echo(f"{len(dialogues.train):,} dialogues to train on, {len(dialogues.valid):,} to choose by")
        history = self.train(train, recipe, dialogues, device)
        self.ended(history, recipe.train, "loss {loss:.4f} a token", f"hanformer chat {self.out}")
