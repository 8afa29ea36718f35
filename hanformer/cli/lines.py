"""Lines of standard input, as commands read them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import typer


def typed_lines(invitation: str) -> Iterator[str]:
    """Lines of standard input that are not blank, as they come; in a terminal the invitation stands above them.

    逐行读取标准输入，跳过空行；在终端中先显示提示语。

    Raises UserError for a line that is not UTF-8.
    """
    if sys.stdin.isatty():
        typer.echo(invitation, err=True)
    yield from filter(str.strip, lines())


def lines() -> Iterator[str]:
    """Every line of standard input, blank ones too, as they come. 标准输入的全部行（含空行）。

    Raises UserError for a line that is not UTF-8.
    """
    from hanformer.data.files import TO_UTF_8
    from hanformer.errors import UserError

    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise UserError(
                f"standard input: line {number} is not UTF-8; convert it to UTF-8 ({TO_UTF_8})"
            ) from None
