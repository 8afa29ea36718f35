"""`hanformer train tag`: words or named entities found in texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.training import TextTraining

if TYPE_CHECKING:
    from hanformer.tasks.tag.recipe import TagRecipe


@dataclass(frozen=True, kw_only=True)
class Tag(TextTraining):
    """Train a model that segments texts into words, or finds their named entities.

    训练序列标注模型：中文分词与命名实体识别。

    Example: hanformer train tag --scheme segmentation --head crf --data sxu/ --out runs/words
    """

    data: Annotated[
        str,
        typer.Option(
            help="A folder or zip with train, valid and test files, or one file: lines of words with blanks between, "
            "columns of tokens and tags, People's Daily word/tag lines, or JSON records. 标注数据。"
        ),
    ]
    valid: Annotated[
        Path | None, typer.Option(help="A file to choose by; else valid texts are held out. 验证文件。")
    ] = None
    scheme: Annotated[
        str | None, typer.Option(help="segmentation (the default) or entities. 分词或命名实体。")
    ] = None
    head: Annotated[
        str | None,
        typer.Option(
            help="softmax, crf (the default), memm, global_pointer or efficient_global_pointer. 输出层。"
        ),
    ] = None

    def choose(self) -> "TagRecipe":
        """The recipe that the options stand for. 由选项得到配方。"""
        from hanformer.tasks.tag.recipe import TagRecipe

        return self.chosen(TagRecipe(), {"scheme": self.scheme, "head": self.head})

    def __call__(self) -> None:
        from hanformer.tasks.tag.data import open_tagged
        from hanformer.tasks.tag.training import train

        recipe = self.choose()
        device = self.machine(recipe.start_from, recipe.check_start)
        texts = open_tagged(
            self.data,
            recipe.reading,
            valid=recipe.valid,
            limit=recipe.limit,
            seed=recipe.train.seed,
            valid_file=recipe.valid_file or None,
        )
        typer.echo(f"{len(texts.train):,} texts to train on, {len(texts.valid):,} to choose by")
        history = self.train(train, recipe, texts, device)
        self.ended(history, recipe.train, "F1 {f1:.2%}")
