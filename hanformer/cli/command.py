"""Commands that are records: the fields are their options, and calling the record does the work.

Commands that share options inherit them. The modules of such records do without postponed annotations, for typer reads
those of inherited fields where it does not know their names. 以记录表示的命令：字段即选项，调用记录即执行。
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from hanformer.errors import UserError

#: What typer raises for options that it cannot use; typer names only this subclass in public.
UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])


class RecordCommand(TyperCommand):
    """A command whose callback is a frozen dataclass: made of what was given, then called.

    由冻结数据类表示的命令：先由选项构造记录，再调用它。
    """

    def record(self, ctx: Any) -> Any:
        """The record of what was given. 由选项构造的记录。"""
        return super().invoke(ctx)

    def invoke(self, ctx: Any) -> Any:
        """Makes the record, and calls it. 构造并执行。"""
        return self.record(ctx)()


def add_command(app: typer.Typer, name: str, command: Callable[..., Any]) -> None:
    """Adds a function or a record as a command; lists of commands show its first two paragraphs, English and Chinese.

    注册命令；命令列表中同时显示英文与中文说明。
    """
    english, chinese = (inspect.getdoc(command) or "").split("\n\n")[:2]
    kind = RecordCommand if isinstance(command, type) else None
    app.command(name, cls=kind, short_help=" ".join(f"{english} {chinese}".split()))(command)


def read_command(app: typer.Typer, words: Sequence[str]) -> Any:
    """What a command makes of its words, with nothing run: its record, or None where it is a function.

    解析命令的各项参数而不执行；以记录表示的命令返回该记录。

    Raises UserError for a command that is not there, and for options that it cannot use.
    """
    command, rest = typer.main.get_command(app), list(words)
    while isinstance(command, TyperGroup):
        if not rest or rest[0] not in command.commands:
            raise UserError(
                f"{' '.join(words)!r}: expected a command, one of {', '.join(sorted(command.commands))}"
            )
        command = command.commands[rest.pop(0)]
    try:
        context = command.make_context(str(command.name), rest)
    except UsageError as error:
        raise UserError(error.format_message()) from None
    return command.record(context) if isinstance(command, RecordCommand) else None
