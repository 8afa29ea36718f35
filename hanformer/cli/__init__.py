"""The command `hanformer`: one file a verb."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Final, NoReturn, TextIO

import typer

from hanformer import __version__
from hanformer.cli import (
    chat,
    compare,
    convert,
    data,
    demo,
    diagnose,
    embed,
    evaluate,
    fill_mask,
    generate,
    inspect,
    lab,
    parse,
    predict,
    report,
    score,
    train,
)
from hanformer.cli.command import UsageError, add_command
from hanformer.errors import UserError

#: What is listed after `evaluate` and `predict`, in that order.
_COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "demo": demo.demo,
    "inspect": inspect.inspect,
    "convert": convert.convert,
    "fill-mask": fill_mask.fill_mask,
    "embed": embed.embed,
    "compare": compare.compare,
    "lab": lab.lab,
    "parse": parse.parse,
    "chat": chat.chat,
    "generate": generate.Generate,
    "diagnose": diagnose.Diagnose,
    "score": score.score,
    "report": report.report,
}

app = typer.Typer(
    name="hanformer",
    help="A small, exact, fast toolkit for Chinese Transformers. 小巧、精确、快速的中文 Transformer 工具箱。",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop. 显示版本。")
    ] = False,
) -> None:
    """A small, exact, fast toolkit for Chinese Transformers. 小巧、精确、快速的中文 Transformer 工具箱。"""
    if version:
        typer.echo(f"hanformer {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


app.add_typer(train.app, name="train")
app.add_typer(data.app, name="data")
add_command(app, "evaluate", evaluate.evaluate)
add_command(app, "predict", predict.predict)
app.command("solve", help="The same as `predict`, for word problems. 解应用题（同 predict）。")(
    predict.predict
)
for _name, _command in _COMMANDS.items():
    add_command(app, _name, _command)


# What typer makes of Ctrl-C.
_INTERRUPTED = 130


def _refuse(message: str) -> NoReturn:
    print(f"hanformer: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a line, without its place in the code; lines of its own are joined by semicolons."""
    lines = [" ".join(line.split()) for line in str(message).splitlines() if line.strip()]
    print(f"warning: {'; '.join(lines)}", file=sys.stderr)


def main() -> None:
    """Runs a command; a user's mistake is one line on standard error and exit code 2.

    命令行入口；使用者的错误只输出一行，退出码为 2。
    """
    # Threads that wait for each other sleep instead of spinning: where other programs want the cores, spinning takes
    # the time from the thread that is waited for. Read by OpenMP when torch is imported, which the commands do later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _warn
            code = app(standalone_mode=False, prog_name="hanformer")
    except UserError as error:
        _refuse(str(error))
    except UsageError as error:
        if not error.format_message():  # the help was asked for by giving nothing, and is printed
            sys.exit(2)
        called = "hanformer" if error.ctx is None else error.ctx.command_path
        _refuse(f"{error.format_message()} (see {called} --help)")
    except BrokenPipeError:
        # The reader of our output has gone (a pager, head); there is nobody left to tell.
        sys.exit(0)
    if code == _INTERRUPTED:
        print("hanformer: interrupted", file=sys.stderr)
    sys.exit(code)
