"""`hanformer train arithmetic`: Chinese word problems."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from hanformer.cli.options import Data, Device, Threads, read_assignments
from hanformer.cli.training import Assignments, Out, Resume, Training, best, train_option
from hanformer.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Training):
    """Train a Transformer to solve Chinese arithmetic word problems.

    训练解中文算术应用题的 Transformer。

    Example: hanformer train arithmetic --data math23k/ --out runs/math23k
    """

    out: Out
    data: Data = "generated"
    recipe: Annotated[str, train_option(help="A preset: default or demo. 预设配方。")] = "default"
    assignments: Assignments = None
    start_from: Annotated[
        str | None,
        train_option(
            help="A pretrained model to fine-tune (raw layout): a folder, a hub id or tiny. 要微调的预训练模型。"
        ),
    ] = None
    resume: Resume = False
    device: Device = "auto"
    threads: Threads = None

    def __call__(self) -> None:
        from hanformer.arithmetic.data_sets import open_data
        from hanformer.arithmetic.recipe import RECIPES
        from hanformer.arithmetic.training import train

        if self.recipe not in RECIPES:
            raise UserError(f"--recipe: expected one of {', '.join(RECIPES)}, got {self.recipe!r}")
        recipe = RECIPES[self.recipe].changed(read_assignments(self.assignments or []))
        device = self.machine()
        problems = open_data(self.data, seed=recipe.train.seed, count=recipe.generated, valid=recipe.valid)
        typer.echo(
            f"{len(problems.train)} problems to train on, {len(problems.valid)} to choose by, "
            f"{problems.dropped} dropped by cleaning"
            + (f", {problems.copies} near copies of test problems left out" if problems.copies else "")
        )
        history = self.train(partial(train, start_from=self.start_from), recipe, problems, device)
        self.ended(f"accuracy {best(history, 'accuracy'):.1%}")
