"""`hanformer generate`: text from any model that writes, by every rule of the engine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.model_options import Checkpoint, ConfigFile, Family, TokenizerPath, warnings_as_lines
from hanformer.cli.options import Device, Precision, Threads, prepare_machine

if TYPE_CHECKING:
    from hanformer.tasks.generation import Generated, Writer

_RULE = "Rule · 规则"
_SAMPLING = "Sampling · 采样"
_STEERING = "Penalties and steering · 惩罚与引导"
_BOUNDS = "Constraints and stops · 约束与停止"
_FILES = "Files and output · 文件与输出"


def generate(
    context: typer.Context,
    model: Checkpoint,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Prompts or sources; without any, lines of standard input. 提示；省略时读标准输入。"
        ),
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            help="greedy, beam, diverse, bert4keras, sample or contrastive. 解码规则。", rich_help_panel=_RULE
        ),
    ] = "greedy",
    maximum_length: Annotated[
        int, typer.Option(help="New tokens at most. 最多新词元数。", rich_help_panel=_RULE)
    ] = 64,
    minimum_length: Annotated[
        int, typer.Option(help="New tokens at least. 最少新词元数。", rich_help_panel=_RULE)
    ] = 1,
    results: Annotated[
        int, typer.Option(help="Results for each prompt. 每个提示的结果数。", rich_help_panel=_RULE)
    ] = 1,
    beams: Annotated[
        int | None, typer.Option(help="Width of the beam, 4 by default. 束宽。", rich_help_panel=_RULE)
    ] = None,
    groups: Annotated[
        int | None, typer.Option(help="Groups of the rule diverse. 多样束的组数。", rich_help_panel=_RULE)
    ] = None,
    diversity: Annotated[
        float | None, typer.Option(help="What groups pay for a token. 多样性强度。", rich_help_panel=_RULE)
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(help="Exponent: 1 is the mean, 0 the sum. 长度惩罚指数。", rich_help_panel=_RULE),
    ] = None,
    gnmt: Annotated[
        bool, typer.Option("--gnmt", help="GNMT's length penalty. GNMT 形式。", rich_help_panel=_RULE)
    ] = False,
    stopping: Annotated[
        str | None,
        typer.Option(help="sound, full or heuristic. 束搜索何时结束。", rich_help_panel=_RULE),
    ] = None,
    minimum_ends: Annotated[
        int | None,
        typer.Option(
            help="End tokens that bert4keras' rule waits for. 需要的结束符个数。", rich_help_panel=_RULE
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Contrastive: weight of unlikeness. 对比搜索权重。", rich_help_panel=_RULE),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Contrastive: tokens tried. 对比搜索候选数。", rich_help_panel=_RULE),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws. 随机种子。", rich_help_panel=_SAMPLING)] = 0,
    temperature: Annotated[
        float | None, typer.Option(help="Divides the logits. 温度。", rich_help_panel=_SAMPLING)
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Keep the k best. 保留前 k 个。", rich_help_panel=_SAMPLING)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Nucleus sampling. 核采样。", rich_help_panel=_SAMPLING)
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(help="Keep what is at least p times the best. 相对阈值。", rich_help_panel=_SAMPLING),
    ] = None,
    typical: Annotated[
        float | None, typer.Option(help="Typical sampling. 典型采样。", rich_help_panel=_SAMPLING)
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Drop below epsilon. 绝对阈值。", rich_help_panel=_SAMPLING)
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(help="Threshold that follows the entropy. 熵自适应阈值。", rich_help_panel=_SAMPLING),
    ] = None,
    mirostat: Annotated[
        float | None, typer.Option(help="Target surprise in bits. 目标惊奇度。", rich_help_panel=_SAMPLING)
    ] = None,
    consistent: Annotated[
        bool,
        typer.Option(
            "--consistent", help="Never cut the end token off. 截断时保留结束符。", rich_help_panel=_SAMPLING
        ),
    ] = False,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(help="Divides logits of old tokens. 重复惩罚。", rich_help_panel=_STEERING),
    ] = None,
    presence_penalty: Annotated[
        float | None, typer.Option(help="Subtracted once. 出现惩罚。", rich_help_panel=_STEERING)
    ] = None,
    frequency_penalty: Annotated[
        float | None,
        typer.Option(help="Subtracted at each occurrence. 频率惩罚。", rich_help_panel=_STEERING),
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, typer.Option(help="No n-gram twice. 禁止重复 n 元组。", rich_help_panel=_STEERING)
    ] = None,
    penalise_prompt: Annotated[
        bool,
        typer.Option(
            "--penalise-prompt",
            help="Penalties count the prompt too. 惩罚计入提示。",
            rich_help_panel=_STEERING,
        ),
    ] = False,
    bias: Annotated[
        list[str] | None, typer.Option(help="token=number. 偏置。", rich_help_panel=_STEERING)
    ] = None,
    suppress: Annotated[
        list[str] | None, typer.Option(help="A token never written. 禁用词元。", rich_help_panel=_STEERING)
    ] = None,
    force: Annotated[
        list[str] | None,
        typer.Option(help="step=token, 0 is the first step. 强制词元。", rich_help_panel=_STEERING),
    ] = None,
    decay: Annotated[
        str | None,
        typer.Option(help="start,factor: a growing urge to end. 长度衰减。", rich_help_panel=_STEERING),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Classifier-free guidance. 无分类器引导。", rich_help_panel=_STEERING),
    ] = None,
    without: Annotated[
        str, typer.Option(help="The prompt to be led away from. 反向提示。", rich_help_panel=_STEERING)
    ] = "",
    stop: Annotated[
        list[str] | None, typer.Option(help="A string that ends a text. 停止串。", rich_help_panel=_BOUNDS)
    ] = None,
    also_end: Annotated[
        list[str] | None, typer.Option(help="Another end token. 其他结束词元。", rich_help_panel=_BOUNDS)
    ] = None,
    end: Annotated[str | None, typer.Option(help="The end token. 结束符。", rich_help_panel=_BOUNDS)] = None,
    forbidden: Annotated[
        list[str] | None, typer.Option(help="A word never written. 禁用词。", rich_help_panel=_BOUNDS)
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help="A regular expression for the whole text. 正则约束。", rich_help_panel=_BOUNDS),
    ] = None,
    passage: Annotated[
        str | None,
        typer.Option(help="Copy an n-gram of this passage. 只摘抄此段原文。", rich_help_panel=_BOUNDS),
    ] = None,
    copy_prompt: Annotated[
        bool,
        typer.Option(
            "--copy-prompt", help="Copy an n-gram of the prompt. 只摘抄提示。", rich_help_panel=_BOUNDS
        ),
    ] = False,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds for a batch. 每批秒数上限。", rich_help_panel=_BOUNDS)
    ] = None,
    prompt_lookup: Annotated[
        int | None,
        typer.Option(help="Guess so many tokens ahead. 推测解码的草稿长度。", rich_help_panel=_RULE),
    ] = None,
    frame: Annotated[
        str,
        typer.Option(
            help="auto, or bare: nothing around the text. 是否加首尾词元。", rich_help_panel=_BOUNDS
        ),
    ] = "auto",
    prompt_length: Annotated[
        int | None, typer.Option(help="Cut longer prompts. 截断提示。", rich_help_panel=_BOUNDS)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Prompts a line, or JSON lines with --field; - is standard input. 输入文件。",
            rich_help_panel=_FILES,
        ),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="The field of JSON records. 文本字段名。", rich_help_panel=_FILES)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines to write; the same words go on after a break. 输出文件，可续做。",
            rich_help_panel=_FILES,
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Prompts together. 每批提示数。", rich_help_panel=_FILES)
    ] = 8,
    stream: Annotated[
        bool, typer.Option("--stream", help="Show text as it comes. 流式输出。", rich_help_panel=_FILES)
    ] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="Print score and stop. 输出得分。", rich_help_panel=_FILES)
    ] = False,
    alternatives: Annotated[
        int | None,
        typer.Option(help="Log p of every token and so many others. 逐词元候选。", rich_help_panel=_FILES),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines. 输出 JSON 行。", rich_help_panel=_FILES)
    ] = False,
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
    """Write text: go on with prompts (GPT kinds), or rewrite sources (UniLM, T5).

    生成文本：续写提示（GPT 类），或改写输入（UniLM、T5）。

    Examples: hanformer generate gpt "今天天气" --rule sample --top-p 0.9 --stream;
    hanformer generate t5 --input texts.txt --out titles.jsonl --rule beam --beams 4
    """
    from hanformer import runtime
    from hanformer.tasks.generation import open_writer
    from hanformer.tasks.generation_options import read_options

    options = read_options(context.params)
    _check_files(text, source, out)
    target = prepare_machine(device, threads)
    with warnings_as_lines():
        writer = open_writer(
            model,
            options,
            family=family,
            application=application,
            config=config,
            tokenizer=tokenizer,
            device=target,
            dtype=runtime.inference_dtype(precision, target),
        )
    if source is not None and out is not None:
        _write_file(writer, source, field, out, batch, {"model": model, "precision": precision})
        return
    prompts = iter(text) if text else _standard_input()
    if stream:
        _show_streams(writer, prompts)
    else:
        _show(writer, prompts, batch, _printer(writer, scores, as_json))


def _check_files(text: Sequence[str] | None, source: str | None, out: Path | None) -> None:
    from hanformer.errors import UserError

    if (source is None) != (out is None):
        raise UserError("--input and --out go together: prompts from a file, JSON lines to another")
    if source is not None and text:
        raise UserError("give prompts as arguments, or a file by --input, not both")
    if out is not None and not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or choose another place")


def _write_file(
    writer: Writer, source: str, field: str | None, out: Path, batch: int, origin: dict[str, str]
) -> None:
    from hanformer.similarity.vector_files import read_texts
    from hanformer.tasks.generation_files import Job, write_file

    prompts = read_texts(source, field)
    with _bar(len(prompts)) as progress:
        before, failed = write_file(out, Job(writer, prompts, batch, origin), progress)
    told = f" ({before:,} were there already)" if before else ""
    typer.echo(f"{out}: {len(prompts):,} prompts{told}")
    if failed:
        typer.echo(f"hanformer: {failed:,} of them have an error instead of results", err=True)
        raise typer.Exit(2)


def _show_streams(writer: Writer, prompts: Iterator[str]) -> None:
    for number, prompt in enumerate(prompts):
        pieces = writer.stream(prompt, number=number)
        try:
            for piece in pieces:
                sys.stdout.write(piece)
                sys.stdout.flush()
        finally:  # an interrupt too leaves a whole line
            sys.stdout.write("\n")
            sys.stdout.flush()


def _show(
    writer: Writer, prompts: Iterator[str], batch: int, show: Callable[[str, Sequence[Generated]], None]
) -> None:
    from hanformer.errors import UserError

    size = 1 if sys.stdin.isatty() else 8 * batch
    given = 0
    while chunk := list(islice(prompts, size)):
        numbers = range(given, given + len(chunk))
        given += len(chunk)
        for prompt, results in zip(chunk, writer.write(chunk, batch=batch, numbers=numbers), strict=True):
            show(prompt, results)
    if not given:
        raise UserError("no prompt was given: write one as an argument, or one a line on standard input")


def _printer(writer: Writer, scores: bool, as_json: bool) -> Callable[[str, Sequence[Generated]], None]:
    from hanformer.tasks.generation_files import line
    from hanformer.tasks.generation_table import table

    vocabulary = writer.tokenizer.vocabulary
    if as_json:
        return lambda prompt, results: typer.echo(line(prompt, results, vocabulary), nl=False)
    return lambda prompt, results: typer.echo(table(results, vocabulary, scores))


def _standard_input() -> Iterator[str]:
    from hanformer.similarity.vector_files import read_texts

    if sys.stdin.isatty():
        typer.echo("Write one prompt a line; end with Ctrl-D. 每行一个提示，按 Ctrl-D 结束。", err=True)
        yield from (text.removesuffix("\n") for text in sys.stdin if text.strip())
        return
    yield from (text for text in read_texts("-") if text.strip())


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], object]]:
    """A bar on standard error in a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("prompts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("prompts", total=total)
        yield lambda done: progress.advance(task, done)
