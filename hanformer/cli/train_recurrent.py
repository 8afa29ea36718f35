"""`hanformer train recurrent`: a recurrent language model on running text."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.options import Device, Threads, read_assignments
from hanformer.cli.training import Out, Resume, Training, train_option

if TYPE_CHECKING:
    from hanformer.parsing.training import RecurrentRecipe


@dataclass(frozen=True, kw_only=True)
class Recurrent(Training):
    """Train a recurrent language model, an ON-LSTM unless said otherwise.

    训练循环语言模型（默认 ON-LSTM）。

    Example: hanformer train recurrent --data ptb.zip --out runs/onlstm --set train.epochs=20
    """

    out: Out
    data: Annotated[
        Path,
        typer.Option(
            help="Running text: a folder or zip with files named train, valid and test, or one file. "
            "连续文本：含 train、valid、test 的文件夹或 zip，或单个文件。"
        ),
    ]
    assignments: Annotated[
        list[str] | None,
        train_option("--set", help="Change one choice: --set model.kind=lstm. 修改配方中的一项。"),
    ] = None
    resume: Resume = False
    device: Device = "auto"
    threads: Threads = None

    def choose(self) -> "RecurrentRecipe":
        """The recipe that the options stand for. 由选项得到配方。"""
        from hanformer.parsing.training import RecurrentRecipe
        from hanformer.records import assign
        from hanformer.train.runs import read_recipe

        begun = RecurrentRecipe() if self.begun is None else read_recipe(RecurrentRecipe(), self.begun)
        return assign(begun, read_assignments(self.assignments or []))

    def __call__(self) -> None:
        from hanformer.nn.layers.recurrent.kinds import ON_LSTM
        from hanformer.parsing.evaluation import measure_text
        from hanformer.parsing.training import train_recurrent

        recipe = self.choose()
        device = self.machine()
        self.train(train_recurrent, recipe, self.data, device)
        found = measure_text(self.out, self.data, device=device)
        said = ", ".join(f"{part} {judged}" for part, judged in found.items())
        shows = (
            f'parse --model {self.out} "a sentence"' if recipe.model.kind == ON_LSTM else f"report {self.out}"
        )
        typer.echo(f"perplexity: {said}; next: hanformer {shows}")
