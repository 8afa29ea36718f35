"""`hanformer train arithmetic`: Chinese word problems."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.options import Data, Device, Threads, read_assignments
from hanformer.cli.training import Assignments, Out, Resume, Training, train_option
from hanformer.errors import UserError

if TYPE_CHECKING:
    from hanformer.arithmetic.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Training):
    """Train a Transformer to solve Chinese arithmetic word problems.

    训练解中文算术应用题的 Transformer。

    Example: hanformer train arithmetic --data math23k/ --out runs/math23k
    """

    out: Out
    data: Data = "generated"
    recipe: Annotated[
        str | None, train_option(help="A preset: default (taken where none is named) or demo. 预设配方。")
    ] = None
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

    def choose(self) -> "Recipe":
        """The recipe that the options stand for. 由选项得到配方。"""
        from hanformer.arithmetic.recipe import DEFAULT, RECIPES, description_of
        from hanformer.train.runs import recipe_of
        from hanformer.train.sizes import Sizes

        if self.recipe not in (None, *RECIPES):
            raise UserError(f"--recipe: expected one of {', '.join(RECIPES)}, got {self.recipe!r}")
        chosen = DEFAULT if self.recipe is None else RECIPES[self.recipe]
        if self.recipe is None and self.begun is not None:
            chosen = recipe_of(DEFAULT, description_of(self.out), self.out)
        named = {} if self.start_from is None else {"start_from": self.start_from}
        named |= read_assignments(self.assignments or [])
        if named.get("start_from") and self.recipe is not None:
            # The sizes of a preset are those of its new model.
            chosen = replace(chosen, sizes=Sizes())
        recipe = chosen.changed(named)
        recipe.check_shape()
        return recipe

    def __call__(self) -> None:
        from hanformer.arithmetic.data_sets import open_data
        from hanformer.arithmetic.training import train

        recipe = self.choose()
        device = self.machine(recipe.start_from, recipe.check_start)
        problems = open_data(self.data, seed=recipe.train.seed, count=recipe.generated, valid=recipe.valid)
        typer.echo(
            f"{len(problems.train)} problems to train on, {len(problems.valid)} to choose by, "
            f"{problems.dropped} dropped by cleaning"
            + (f", {problems.copies} near copies of test problems left out" if problems.copies else "")
        )
        history = self.train(train, recipe, problems, device)
        self.ended(history, recipe.train, "accuracy {accuracy:.1%}")
