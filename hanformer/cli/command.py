"""Commands that are records: the fields are their options, and calling the record does the work.

Commands that share options inherit them. The modules of such records do without postponed annotations, for typer reads
those of inherited fields where it does not know their names. 以记录表示的命令：字段即选项，调用记录即执行。
"""

from typing import Any

from typer.core import TyperCommand


class RecordCommand(TyperCommand):
    """A command whose callback is a frozen dataclass: made of what was given, then called.

    由冻结数据类表示的命令：先由选项构造记录，再调用它。
    """

    def invoke(self, ctx: Any) -> Any:
        """Makes the record, and calls it. 构造并执行。"""
        return super().invoke(ctx)()
