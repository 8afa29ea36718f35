"""`hanformer train seq2seq`: texts rewritten as other texts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.training import TextTraining

if TYPE_CHECKING:
    from hanformer.tasks.seq2seq.recipe import Seq2SeqRecipe


@dataclass(frozen=True, kw_only=True)
class Seq2Seq(TextTraining):
    """Train a model that writes a text for a text: translation, summaries, titles, questions.

    训练序列到序列模型：翻译、摘要、标题、问题生成。

    Example: hanformer train seq2seq --data pairs/ --out runs/translator --set architecture=encoder_decoder
    """

    data: Annotated[
        str,
        typer.Option(
            help="A folder with train, valid and test files, or one file: tab-separated (the last two columns), CSV or "
            "JSON records with source and target. 文本对数据。"
        ),
    ]

    def choose(self) -> "Seq2SeqRecipe":
        """The recipe that the options stand for. 由选项得到配方。"""
        from hanformer.tasks.seq2seq.recipe import Seq2SeqRecipe

        recipe = self.chosen(Seq2SeqRecipe())
        recipe.check_together()
        return recipe

    def __call__(self) -> None:
        from hanformer.tasks.seq2seq.pairs import open_pairs
        from hanformer.tasks.seq2seq.training import train

        recipe = self.choose()
        device = self.machine(recipe.start_from, recipe.check_start)
        pairs = open_pairs(
            self.data,
            columns=recipe.columns,
            valid=recipe.valid,
            limit=recipe.limit,
            seed=recipe.train.seed,
            valid_file=recipe.valid_file or None,
        )
        typer.echo(f"{len(pairs.train):,} pairs to train on, {len(pairs.valid):,} to choose by")
        history = self.train(train, recipe, pairs, device)
        self.ended(history, recipe.train, "loss {loss:.4f} a token")
