"""`hanformer diagnose`: why text repeats, and whether a model's text ends."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.writing import Writing

if TYPE_CHECKING:
    from hanformer.tasks.diagnosis_report import Diagnosis


@dataclass(frozen=True, kw_only=True)
class Diagnose(Writing):
    """Measure how text repeats itself, and how often a model's text does not end.

    诊断文本的重复程度，以及模型输出的重复与不终止。

    From a text or a file: repetition metrics, the bigram model's repetition measure with its bounds, and the same after
    the rebalanced encoding, by characters or by the tokens of --tokenizer. From a model: continuations of prompts by
    several rules.

    Examples: hanformer diagnose novel.txt --figure novel.png;
    hanformer diagnose gpt --prompt "今天天气" --report gpt.html
    """

    what: Annotated[str, typer.Argument(help="A text, a file of texts, or a model. 文本、文本文件或模型。")]
    kind: Annotated[str, typer.Option(help="auto, text, file or model. 参数的种类。")] = "auto"
    field: Annotated[
        str | None, typer.Option(help="The field of JSON records that holds the text. 文本字段名。")
    ] = None
    prompt: Annotated[
        list[str] | None, typer.Option(help="What the model goes on with. 供模型续写的提示。")
    ] = None
    prompts: Annotated[
        str | None, typer.Option(help="A file of prompts, one a line. 提示文件，每行一条。")
    ] = None
    condition: Annotated[
        str | None, typer.Option(help="The label that the model writes under, if it learned some. 条件标签。")
    ] = None
    samples: Annotated[int, typer.Option(min=1, help="Draws for a prompt. 每个提示的采样数。")] = 8
    maximum_length: Annotated[int, typer.Option(min=1, help="New tokens at most. 最多新词元数。")] = 128
    seed: Annotated[int, typer.Option(help="Seed of the draws. 随机种子。")] = 0
    tokens: Annotated[
        int, typer.Option(min=1, max=4000, help="Most frequent tokens in the bigram table. 二元表的词元数。")
    ] = 500
    smoothing: Annotated[float, typer.Option(help="Added to every count of pairs. 平滑。")] = 0.0
    gamma: Annotated[float, typer.Option(help="Rebalancing merges pairs above it. 再平衡的概率阈值。")] = 0.1
    report: Annotated[Path | None, typer.Option(help="An HTML page to write. 网页报告。")] = None
    figure: Annotated[Path | None, typer.Option(help="A picture to write (.png, .svg). 图。")] = None

    def __call__(self) -> None:
        from hanformer.tasks.diagnosis_report import kind_of_picture, table, write_figure, write_page

        if self.figure is not None:  # before what may take minutes
            kind_of_picture(self.figure)
        kind = self._kind()
        found = self._of_model() if kind == "model" else self._of_texts(kind)
        typer.echo(table(found))
        if self.figure is not None:
            write_figure(self.figure, found)
        if self.report is not None:
            write_page(self.report, found, f"hanformer diagnose {self.what[:60]}")

    def _kind(self) -> str:
        from hanformer.errors import UserError
        from hanformer.tasks.diagnosis import kind_of

        if self.kind not in ("auto", "text", "file", "model"):
            raise UserError(f"kind: expected auto, text, file or model, got {self.kind!r}")
        prompted = self.prompt or self.prompts
        if prompted and self.kind in ("text", "file"):
            raise UserError("prompts are for models: leave --prompt and --prompts out, or --kind")
        if prompted:  # a model may be known by its name alone
            return "model"
        return kind_of(self.what) if self.kind == "auto" else self.kind

    def _of_model(self) -> "Diagnosis":
        from hanformer.tasks.diagnosis import diagnose_model
        from hanformer.tasks.generation_options import GenerationOptions

        prompts = self._prompts()
        options = GenerationOptions(maximum_length=self.maximum_length, condition=self.condition)
        writer = self.writer(self.what, options)
        return diagnose_model(
            writer.given,
            writer.tokenizer,
            prompts,
            writer.options,
            samples=self.samples,
            seed=self.seed,
            most=self.tokens,
            progress=lambda name: typer.echo(f"  {name}", err=True),
        )

    def _prompts(self) -> list[str]:
        from hanformer.errors import UserError
        from hanformer.similarity.vector_files import read_texts

        read = [] if self.prompts is None else read_texts(self.prompts, self.field)
        found = [*(self.prompt or ()), *read]
        if not found:
            raise UserError("a model needs prompts to go on with: give --prompt TEXT, or --prompts FILE")
        return found

    def _of_texts(self, kind: str) -> "Diagnosis":
        from hanformer.similarity.vector_files import read_texts
        from hanformer.tasks.diagnosis import characters, diagnose_text, tokens_of
        from hanformer.text.load import load_tokenizer

        texts = read_texts(self.what, self.field) if kind == "file" else [self.what]
        split = characters if self.tokenizer is None else tokens_of(load_tokenizer(self.tokenizer))
        return diagnose_text(texts, split, most=self.tokens, smoothing=self.smoothing, gamma=self.gamma)
