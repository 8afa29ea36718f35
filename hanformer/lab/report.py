"""What an experiment found, as text and as one HTML page with its figures inside."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from hanformer.errors import UserError
from hanformer.weights.atomic import write_text

PAGE_FILE = "report.html"


@dataclass(frozen=True)
class Table:
    """Rows of text under a head. 表格。"""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """The table in columns, for a terminal. 终端用的文本表格。"""
        lines = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = (
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in padded)])


@dataclass(frozen=True)
class Picture:
    """A figure of matplotlib under a name (of its file) and a caption. 一幅图。"""

    name: str
    caption: str
    figure: Any


@dataclass(frozen=True)
class Report:
    """What an experiment found: sentences, tables and pictures.

    实验结果：文字、表格与图。
    """

    title: str
    findings: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()

    def text(self) -> str:
        """Everything but the pictures, for a terminal. 终端用的文本。"""
        return "\n".join([self.title, *self.findings, *(table.text() for table in self.tables)])


def figure(width: float = 9.0, height: float = 3.4) -> Any:
    """An empty figure of matplotlib, in inches; raises UserError where it is not installed.

    新建一幅空图。
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("the lab draws with matplotlib: pip install 'hanformer[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Sequence[Any]) -> None:
    """A light grid and no frame above and on the right. 统一的坐标轴样式。"""
    for one in axes:
        one.grid(alpha=0.3)
        one.spines[["top", "right"]].set_visible(False)


def svg(picture: Any) -> str:
    """A figure as SVG text, the same bytes for the same figure. 转为 SVG 文本。"""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "hanformer", "svg.fonttype": "none"}):
        picture.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def check_report(out: Path) -> None:
    """Raises UserError where a report could not be drawn, or not be written into the folder, which is made.

    检查能否绘图、能否写入输出目录。
    """
    figure()
    try:
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error}); choose another folder") from None


def write_report(out: Path, report: Report) -> Path:
    """Writes `report.html`, which needs nothing else, and every picture as an SVG file; returns the page's path.

    写出自包含的网页与各图的 SVG 文件。

    Raises UserError where the folder cannot be written.
    """
    drawn = [(picture, svg(picture.figure)) for picture in report.pictures]
    for picture, text in drawn:
        write_text(out / f"{picture.name}.svg", text)
    body = [
        f"<h1>{escape(report.title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in report.findings),
        *(
            f"<figure>{text}<figcaption>{escape(shown.caption)}</figcaption></figure>"
            for shown, text in drawn
        ),
        *(_table(table) for table in report.tables),
    ]
    page = out / PAGE_FILE
    write_text(page, _PAGE.format(title=escape(report.title), style=_STYLE, body="\n".join(body)))
    return page


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f"<h2>{escape(table.title)}</h2><table><tr>{head}</tr>{rows}</table>"


_STYLE = """
body{font:16px/1.6 system-ui,"Noto Sans SC","PingFang SC","Microsoft YaHei",sans-serif;max-width:60rem;
margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h2{margin-top:2rem;font-size:1.2rem}figure{margin:1.5rem 0}figcaption{color:#555}
table{border-collapse:collapse}th,td{text-align:left;padding:.25rem .8rem;border-bottom:1px solid #e5e5e5}
svg{max-width:100%;height:auto}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""
