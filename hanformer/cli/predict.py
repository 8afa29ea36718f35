"""`hanformer predict` and its alias `solve`: text in, expression and answer out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.lines import lines, typed_lines
from hanformer.cli.options import Beams, Beside, Device, Precision, Threads, prepare_machine

_INVITATION = "Write one text a line; end with Ctrl-D. 每行一条，按 Ctrl-D 结束。"


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder. 运行目录。")],
    text: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts or word problems (pairs: two texts with a tab between); without any, lines of standard input. "
            "文本或题目，省略时读标准输入；文本对用 Tab 隔开。"
        ),
    ] = None,
    beams: Beams = 3,
    beside: Beside = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> None:
    """Answer texts with a trained run of any task, a line each; word problems: the expression and the exact answer.

    用训练好的模型逐行作答；应用题输出算式与答案。

    A blank line is answered by a blank line.

    Example: hanformer solve runs/demo "小明有5个苹果，吃了2个，还剩几个？"
    """
    from hanformer.errors import UserError
    from hanformer.tasks.serving import ServingOptions, open_service

    target = prepare_machine(device, threads)
    service = open_service(run, ServingOptions(beams, str(target), precision, tuple(beside or ())))
    failed = given = 0
    for problems in _chunks(iter(text) if text else _from_input()):
        asked = [problem for problem in problems if problem is not None]
        given += len(asked)
        answers = iter(service.predict(asked) if asked else [])
        for problem in problems:
            answer = "" if problem is None else next(answers)
            if isinstance(answer, UserError):
                failed += 1
                typer.echo(f"hanformer: {' '.join(str(answer).split())}: {_short(problem or '')}", err=True)
                typer.echo("")  # lines of answers stand beside lines of questions
            else:
                typer.echo(answer)
    if not given:
        raise UserError("no text was given: write one as an argument, or one a line on standard input")
    if failed:
        raise typer.Exit(2)


def _from_input() -> Iterator[str | None]:
    """Lines of standard input; None for a blank one in a file or a pipe."""
    found = typed_lines(_INVITATION) if sys.stdin.isatty() else lines()
    return (line.strip() or None for line in found)


def _chunks(problems: Iterator[str | None]) -> Iterator[list[str | None]]:
    """Some problems at a time, so that answers appear while more are read; one at a time at a terminal. What came
    before a line that cannot be read is answered before the error."""
    from hanformer.errors import UserError

    size = 1 if sys.stdin.isatty() else 64
    chunk: list[str | None] = []
    try:
        for problem in problems:
            chunk.append(problem)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except UserError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
