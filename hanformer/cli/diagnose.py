"""`hanformer diagnose`: why text repeats, and whether a model's text ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.model_options import ConfigFile, Family, TokenizerPath, warnings_as_lines
from hanformer.cli.options import Device, Precision, Threads, prepare_machine

if TYPE_CHECKING:
    from hanformer.tasks.diagnosis_report import Diagnosis
    from hanformer.tasks.generation import Writer


def diagnose(
    what: Annotated[str, typer.Argument(help="A text, a file of texts, or a model. 文本、文本文件或模型。")],
    kind: Annotated[str, typer.Option(help="auto, text, file or model. 参数的种类。")] = "auto",
    field: Annotated[
        str | None, typer.Option(help="The field of JSON records that holds the text. 文本字段名。")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What the model goes on with. 供模型续写的提示。")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="A file of prompts, one a line. 提示文件，每行一条。")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Draws for a prompt. 每个提示的采样数。")] = 8,
    maximum_length: Annotated[int, typer.Option(min=1, help="New tokens at most. 最多新词元数。")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the draws. 随机种子。")] = 0,
    tokens: Annotated[
        int, typer.Option(min=1, max=4000, help="Most frequent tokens in the bigram table. 二元表的词元数。")
    ] = 500,
    smoothing: Annotated[float, typer.Option(help="Added to every count of pairs. 平滑。")] = 0.0,
    gamma: Annotated[float, typer.Option(help="Rebalancing merges pairs above it. 再平衡的概率阈值。")] = 0.1,
    report: Annotated[Path | None, typer.Option(help="An HTML page to write. 网页报告。")] = None,
    figure: Annotated[Path | None, typer.Option(help="A picture to write (.png, .svg). 图。")] = None,
    application: Annotated[
        str | None, typer.Option(help="lm or unilm, where the file does not say. 应用方式。")
    ] = None,
    family: Family = None,
    config: ConfigFile = None,
    tokenizer: TokenizerPath = None,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Measure how text repeats itself, and how often a model's text does not end.

    诊断文本的重复程度，以及模型输出的重复与不终止。

    From a text or a file: repetition metrics, the bigram model's repetition measure with its bounds, and the same after
    the rebalanced encoding, by characters or by the tokens of --tokenizer. From a model: continuations of prompts by
    several rules.

    Examples: hanformer diagnose novel.txt --figure novel.png;
    hanformer diagnose gpt --prompt "今天天气" --report gpt.html
    """
    from hanformer import runtime
    from hanformer.tasks.diagnosis import kind_of
    from hanformer.tasks.diagnosis_report import table, write_figure, write_page
    from hanformer.tasks.generation import open_writer
    from hanformer.tasks.generation_options import GenerationOptions

    found: Diagnosis
    kind = _kind(kind_of(what) if kind == "auto" else kind)
    if kind == "model":
        target = prepare_machine(device, threads)
        with warnings_as_lines():
            writer = open_writer(
                what,
                GenerationOptions(maximum_length=maximum_length),
                family=family,
                application=application,
                config=config,
                tokenizer=tokenizer,
                device=target,
                dtype=runtime.inference_dtype(precision, target),
            )
        found = _of_model(writer, _prompts(prompt, prompts, field), samples, seed, tokens)
    else:
        found = _of_texts(_texts(what, kind, field), tokenizer, tokens, smoothing, gamma)
    typer.echo(table(found))
    if figure is not None:
        write_figure(figure, found)
    if report is not None:
        write_page(report, found, f"hanformer diagnose {what[:60]}")


def _kind(word: str) -> str:
    from hanformer.errors import UserError

    if word not in ("text", "file", "model"):
        raise UserError(f"kind: expected auto, text, file or model, got {word!r}")
    return word


def _prompts(given: list[str] | None, source: str | None, field: str | None) -> list[str]:
    from hanformer.errors import UserError
    from hanformer.similarity.vector_files import read_texts

    found = [*(given or ()), *([] if source is None else read_texts(source, field))]
    if not found:
        raise UserError("a model needs prompts to go on with: give --prompt TEXT, or --prompts FILE")
    return found


def _of_model(writer: Writer, prompts: list[str], samples: int, seed: int, tokens: int) -> Diagnosis:
    from hanformer.tasks.diagnosis import diagnose_model

    return diagnose_model(
        writer.model,
        writer.tokenizer,
        prompts,
        writer.options,
        samples=samples,
        seed=seed,
        most=tokens,
        progress=lambda name: typer.echo(f"  {name}", err=True),
    )


def _texts(what: str, kind: str, field: str | None) -> list[str]:
    from hanformer.similarity.vector_files import read_texts

    return read_texts(what, field) if kind == "file" else [what]


def _of_texts(
    texts: list[str], tokenizer: Path | None, tokens: int, smoothing: float, gamma: float
) -> Diagnosis:
    from hanformer.tasks.diagnosis import characters, diagnose_text, tokens_of
    from hanformer.text.load import load_tokenizer

    split = characters if tokenizer is None else tokens_of(load_tokenizer(tokenizer))
    return diagnose_text(texts, split, most=tokens, smoothing=smoothing, gamma=gamma)
