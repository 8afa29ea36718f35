"""`hanformer train pretrain`: language models from plain text."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.training import TextTraining

if TYPE_CHECKING:
    from hanformer.tasks.pretrain.recipe import PretrainRecipe


@dataclass(frozen=True, kw_only=True)
class Pretrain(TextTraining):
    """Pretrain a language model on text: masked (mlm), causal (lm) or mixed (unilm), new or continued.

    预训练语言模型：掩码 mlm、因果 lm 或混合 unilm，从零开始或在已有模型上继续。

    Example: hanformer train pretrain --data novels/ --out runs/encoder --set objective=mlm
    """

    data: Annotated[
        str,
        typer.Option(
            help="A file of text or a folder of them: lines (a blank line parts documents), or columns of a table "
            "(--set text.columns=...); plain, .gz, .xz or .zip. 文本文件或文件夹。"
        ),
    ]

    def choose(self) -> "PretrainRecipe":
        """The recipe that the options stand for. 由选项得到配方。"""
        from hanformer.tasks.pretrain.recipe import PretrainRecipe

        return self.chosen(PretrainRecipe())

    def __call__(self) -> None:
        from hanformer.tasks.pretrain.corpus import open_corpus
        from hanformer.tasks.pretrain.training import train

        recipe = self.choose()
        device = self.machine(recipe.start_from, recipe.check_start)
        corpus = open_corpus(self.data, recipe.valid_file or None)
        held = f"{len(corpus.valid)}" if corpus.valid else f"{recipe.valid:,} rows of them"
        typer.echo(f"files: {len(corpus.train)} to train on, {held} to choose by")
        history = self.train(train, recipe, corpus, device)
        self.ended(history, recipe.train, "loss {loss:.4f} a token")
