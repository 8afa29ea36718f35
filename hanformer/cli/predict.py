"""`hanformer predict` and its alias `solve`: text in, expression and answer out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import Beams, Device, Precision, Threads, prepare_machine


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder. 运行目录。")],
    text: Annotated[
        list[str] | None,
        typer.Argument(help="Problems; without any, lines of standard input. 题目；省略时读标准输入。"),
    ] = None,
    beams: Beams = 3,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
) -> None:
    """Solve word problems with a trained run: prints the expression and the exact answer.

    用训练好的模型解应用题，输出算式与答案。

    Example: hanformer solve runs/demo "小明有5个苹果，吃了2个，还剩几个？"
    """
    from hanformer.arithmetic.training import load_solver
    from hanformer.errors import UserError

    target = prepare_machine(device, threads)
    solver = load_solver(run, beams=beams, device=str(target), precision=precision)
    if text:
        problems = list(text)
    else:
        problems = [line.strip() for line in _standard_input() if line.strip()]
        if not problems:
            raise UserError("no problem was given: write one as an argument, or one a line on standard input")
    failed = 0
    for problem, solution in zip(problems, solver.solve_all(problems), strict=True):
        if isinstance(solution, UserError):
            failed += 1
            typer.echo(f"hanformer: {' '.join(str(solution).split())}: {_short(problem)}", err=True)
        else:
            typer.echo(f"{solution.expression} = {solution.answer}")
    if failed:
        raise typer.Exit(2)


def _standard_input() -> list[str]:
    from hanformer.errors import UserError

    try:
        return sys.stdin.buffer.read().decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"standard input: expected UTF-8 text ({error.reason} at byte {error.start})"
        ) from None


def _short(text: str) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return repr(shown if len(shown) <= 40 else shown[:40] + "...")
