"""Commands that are records: the fields are their options, and calling the record does the work.

Commands that share options inherit them. The modules of such records do without postponed annotations, for typer reads
those of inherited fields where it does not know their names. 以记录表示的命令：字段即选项，调用记录即执行。
"""

import inspect
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand


class RecordCommand(TyperCommand):
    """A command whose callback is a frozen dataclass: made of what was given, then called.

    由冻结数据类表示的命令：先由选项构造记录，再调用它。
    """

    def invoke(self, ctx: Any) -> Any:
        """Makes the record, and calls it. 构造并执行。"""
        return super().invoke(ctx)()


def add_command(app: typer.Typer, name: str, command: Callable[..., Any]) -> None:
    """Adds a function or a record as a command; lists of commands show its first two paragraphs, English and Chinese.

    注册命令；命令列表中同时显示英文与中文说明。
    """
    english, chinese = (inspect.getdoc(command) or "").split("\n\n")[:2]
    kind = RecordCommand if isinstance(command, type) else None
    app.command(name, cls=kind, short_help=" ".join(f"{english} {chinese}".split()))(command)
