"""`hanformer train pair`: the class of two texts, or how alike they are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.training import TextTraining

if TYPE_CHECKING:
    from hanformer.tasks.pair.recipe import PairRecipe


@dataclass(frozen=True, kw_only=True)
class Pair(TextTraining):
    """Train a model of pairs of texts: inference, the same question or not, similarity, retrieval.

    训练文本对模型：推理、同义判断、相似度、检索。

    Example: hanformer train pair --data LCQMC/ --out runs/lcqmc --loss cosent
    """

    data: Annotated[
        str,
        typer.Option(
            help="A folder or zip with train, valid and test files, or one file: tab-separated, CSV or JSON records, "
            "with two texts and a label. 文本对数据。"
        ),
    ]
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy, focal or taylor (the class of two texts read together); cosent, simbert or simcse "
            "(the cosine of two texts read apart). 损失，决定分类或相似度。"
        ),
    ] = None

    def choose(self) -> "PairRecipe":
        """The recipe that the options stand for. 由选项得到配方。"""
        from hanformer.tasks.pair.recipe import PairRecipe

        return self.chosen(PairRecipe(), {"loss": self.loss})

    def __call__(self) -> None:
        from hanformer.tasks.pair.rows import open_pairs
        from hanformer.tasks.pair.training import train

        recipe = self.choose()
        device = self.machine(recipe.start_from, recipe.check_start)
        pairs = open_pairs(self.data, recipe, valid_file=recipe.valid_file or None)
        typer.echo(
            f"{len(pairs.train):,} pairs to train on, {len(pairs.valid):,} to choose by"
            + (f", {pairs.left_out:,} left out without the label they need" if pairs.left_out else "")
        )
        history = self.train(train, recipe, pairs, device)
        said = "Spearman correlation {score:.4f}" if recipe.compares else "accuracy {score:.2%}"
        self.ended(history, recipe.train, said)
