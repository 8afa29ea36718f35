"""`hanformer train classify`: texts with one label or many."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.training import TextTraining

if TYPE_CHECKING:
    from hanformer.tasks.classify.recipe import ClassifyRecipe


@dataclass(frozen=True, kw_only=True)
class Classify(TextTraining):
    """Train a model that names the label of a text, or its labels: sentiment, topics, events.

    训练文本分类模型（单标签或多标签）：情感、主题、事件。

    Example: hanformer train classify --data sentiment.zip --out runs/sentiment --trick fgm --average ema
    """

    data: Annotated[
        str,
        typer.Option(
            help="A folder or zip with train, valid and test files, or one file: tab-separated, CSV or JSON records, "
            "with a text and a label. 带标签的文本数据。"
        ),
    ]
    loss: Annotated[
        str | None,
        typer.Option(
            help="cross_entropy, focal or taylor (one label); zlpr, sigmoid or sigmoid_focal (many). "
            "损失，决定单标签或多标签。"
        ),
    ] = None
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Texts without labels, for virtual adversarial training. 无标签文本（半监督）。"),
    ] = None

    def choose(self) -> "ClassifyRecipe":
        """The recipe that the options stand for. 由选项得到配方。"""
        from hanformer.tasks.classify.recipe import ClassifyRecipe

        return self.chosen(ClassifyRecipe(), {"loss": self.loss, "unlabelled": self.unlabelled})

    def __call__(self) -> None:
        from hanformer.tasks.classify.texts import open_texts
        from hanformer.tasks.classify.training import train

        recipe = self.choose()
        device = self.machine(recipe.start_from, recipe.check_start)
        texts = open_texts(self.data, recipe, valid_file=recipe.valid_file or None)
        typer.echo(
            f"{len(texts.train):,} texts to train on, {len(texts.valid):,} to choose by, {len(texts.names)} classes"
            + (f", {len(texts.unlabelled):,} texts without labels" if texts.unlabelled else "")
        )
        history = self.train(train, recipe, texts, device)
        self.ended(history, recipe.train, "micro-F1 {micro_f1:.2%}")
