"""`hanformer generate`: text from any model that writes, by every rule of the engine."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hanformer.cli.bar import bar
from hanformer.cli.generation_options import choice_fields
from hanformer.cli.lines import typed_lines
from hanformer.cli.model_options import Checkpoint
from hanformer.cli.writing import Writing

if TYPE_CHECKING:
    from hanformer.tasks.generation import Generated, Writer

#: An option of the panel of files.
_file = partial(typer.Option, rich_help_panel="Files and output · 文件与输出")
_INVITATION: Final = "Write one prompt a line; end with Ctrl-D. 每行一个提示，按 Ctrl-D 结束。"


@dataclass(frozen=True, kw_only=True)
class _Generation(Writing):
    """Write text: go on with prompts (GPT kinds), or rewrite sources (UniLM, T5).

    生成文本：续写提示（GPT 类），或改写输入（UniLM、T5）。

    Examples: hanformer generate gpt "今天天气" --rule sample --top-p 0.9 --stream;
    hanformer generate t5 --input texts.txt --out titles.jsonl --rule beam --beams 4
    """

    model: Checkpoint
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Prompts or sources; without any, lines of standard input. 提示；省略时读标准输入。"
        ),
    ] = None
    source: Annotated[
        str | None,
        _file("--input", help="Prompts a line, or JSON lines with --field; - is standard input. 输入文件。"),
    ] = None
    field: Annotated[str | None, _file(help="The field of JSON records. 文本字段名。")] = None
    out: Annotated[
        Path | None, _file(help="JSON lines to write; the same words go on after a break. 输出文件，可续做。")
    ] = None
    batch: Annotated[int, _file(min=1, help="Prompts together. 每批提示数。")] = 8
    stream: Annotated[bool, _file("--stream", help="Show text as it comes. 流式输出。")] = False
    scores: Annotated[bool, _file("--scores", help="Print score and stop. 输出得分。")] = False
    alternatives: Annotated[
        int | None, _file(help="Log p of every token and so many others. 逐词元候选。")
    ] = None
    as_json: Annotated[bool, _file("--json", help="Print JSON lines. 输出 JSON 行。")] = False

    def __call__(self) -> None:
        from hanformer.tasks.generation_options import read_options

        options = read_options(vars(self))
        _check_files(self.text, self.source, self.out)
        if self.stream:
            _check_stream(
                {
                    "--out": self.out is not None,
                    "--json": self.as_json,
                    "--scores": self.scores,
                    "--alternatives": self.alternatives is not None,
                }
            )
        writer = self.writer(self.model, options)
        if self.source is not None and self.out is not None:
            origin = {"model": self.model, "precision": self.precision}
            _write_file(writer, self.source, self.field, self.out, self.batch, origin)
            return
        prompts = iter(self.text) if self.text else typed_lines(_INVITATION)
        if self.stream:
            _show_streams(writer, prompts)
        else:
            _show(writer, prompts, self.batch, _printer(writer, self.scores, self.as_json))


# The choices come first: the panels of the help stand in the order of the fields.
_Choices = make_dataclass("_Choices", choice_fields(), frozen=True, kw_only=True)
Generate = make_dataclass(
    "Generate",
    [],
    bases=(_Generation, _Choices),
    namespace={"__doc__": _Generation.__doc__},
    frozen=True,
    kw_only=True,
)


def _check_files(text: Sequence[str] | None, source: str | None, out: Path | None) -> None:
    from hanformer.errors import UserError

    if (source is None) != (out is None):
        raise UserError("--input and --out go together: prompts from a file, JSON lines to another")
    if source is not None and text:
        raise UserError("give prompts as arguments, or a file by --input, not both")
    if out is not None and not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or choose another place")


def _check_stream(others: Mapping[str, bool]) -> None:
    from hanformer.errors import UserError

    given = [name for name, chosen in others.items() if chosen]
    if given:
        raise UserError(
            f"--stream shows the text alone, as it comes: leave {' and '.join(given)} out, or --stream"
        )


def _write_file(
    writer: "Writer", source: str, field: str | None, out: Path, batch: int, origin: dict[str, str]
) -> None:
    from hanformer.similarity.vector_files import read_texts
    from hanformer.tasks.generation_files import Job, write_file

    prompts = read_texts(source, field)
    with bar("prompts", len(prompts)) as progress:
        before, failed = write_file(out, Job(writer, prompts, batch, origin), progress)
    told = f" ({before:,} were there already)" if before else ""
    typer.echo(f"{out}: {len(prompts):,} prompts{told}")
    if failed:
        typer.echo(f"hanformer: {failed:,} of them have an error instead of results", err=True)
        raise typer.Exit(2)


def _show_streams(writer: "Writer", prompts: Iterator[str]) -> None:
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
    writer: "Writer", prompts: Iterator[str], batch: int, show: Callable[[str, Sequence["Generated"]], None]
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


def _printer(writer: "Writer", scores: bool, as_json: bool) -> Callable[[str, Sequence["Generated"]], None]:
    from hanformer.tasks.generation_files import line
    from hanformer.tasks.generation_table import table

    vocabulary = writer.tokenizer.vocabulary
    if as_json:
        return lambda prompt, results: typer.echo(line(prompt, results, vocabulary), nl=False)
    return lambda prompt, results: typer.echo(table(results, vocabulary, scores))
