"""A diagnosis as a table, as a figure, as a page. 诊断结果的表格、图与网页。"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hanformer.errors import UserError
from hanformer.tasks.diagnosis import ModelDiagnosis, Repetition, RuleDiagnosis, TextDiagnosis
from hanformer.theory.repetition import RepetitionRisk, repetition_risk
from hanformer.theory.transitions import Transitions
from hanformer.weights.atomic import write_bytes, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Diagnosis = TextDiagnosis | ModelDiagnosis
_COLORS: Final = ("#31688e", "#b5442e", "#3a8f5c", "#8a6bb1", "#c99b2f", "#555555", "#d1729b")
_METRICS: Final = ("rep-w", "seq-rep-n", "rep-r")
_NO: Final = "-"


def rows_of(found: Diagnosis) -> list[list[str]]:
    """The table: a heading, then a row for each text or rule. 表格各行（含表头）。"""
    if isinstance(found, TextDiagnosis):
        heads = ["", "texts", "tokens", *_METRICS, "R", "lower", "upper", "root"]
        return [heads, *([*_named(row), *_risk(row)] for row in found.rows)]
    first = found.rules[0]
    ends = [f"open at {first.lengths[point]}" for point in _points(first)]
    heads = ["", "texts", "tokens", *_METRICS, "R", "length", *ends]
    rows = ([*_named(each.repetition), *_risk(each.repetition)[:1], *_ends(each)] for each in found.rules)
    return [heads, *rows]


def table(found: Diagnosis) -> str:
    """The rows as aligned text. 对齐的文本表格。"""
    rows = rows_of(found)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *_notes(found)])


def _named(row: Repetition) -> list[str]:
    return [
        row.name,
        f"{row.texts:,}",
        f"{row.tokens:,}",
        *(f"{value:.3f}" for value in (row.in_window, row.ngrams, row.bigrams)),
    ]


def _risk(row: Repetition) -> list[str]:
    if row.risk is None:
        return [_NO] * 4
    return _bounded(row.risk)


def _bounded(risk: RepetitionRisk) -> list[str]:
    lower = max(risk.lower_by_trace, risk.lower_by_diagonal)
    return [_number(value) for value in (risk.measure, lower, risk.upper, risk.root)]


def _number(value: float) -> str:
    return "inf" if math.isinf(value) else f"{value:.4f}"


def _points(found: RuleDiagnosis) -> list[int]:
    """Where the curve is printed: a quarter, a half, the whole."""
    last = len(found.lengths) - 1
    return sorted({last // 4, last // 2, last})


def _ends(found: RuleDiagnosis) -> list[str]:
    return [f"{found.mean_length:.1f}", *(f"{found.unfinished[point]:.3f}" for point in _points(found))]


def _notes(found: Diagnosis) -> list[str]:
    common = (
        "rep-w: tokens seen within 16 before; seq-rep-n: repeated 1- to 4-grams; rep-r: tokens in a repeated bigram; "
        "R: expected loops of the bigram model"
    )
    if isinstance(found, TextDiagnosis):
        return [
            f"{common}; the {len(found.transitions.tokens):,} most frequent tokens hold "
            f"{found.transitions.coverage:.1%} of all pairs"
        ]
    notes = [f"{common}; open at L: texts without an end among their first L tokens"]
    return notes if found.transitions is None else [*notes, _own(found.transitions)]


def _own(table: Transitions) -> str:
    measure, lower, upper, root = _bounded(repetition_risk(table.matrix))
    return (
        f"the model's own table, p(next | prompt, this) among the {len(table.tokens):,} tokens that it wrote most, "
        f"with {table.coverage:.1%} of the probability: R {measure}, lower {lower}, upper {upper}, root {root}"
    )


def write_figure(path: Path, found: Diagnosis) -> None:
    """Draws the diagnosis: curves of non-termination and metrics by rule, or the table of transitions.

    画图：不终止曲线与各规则指标，或转移矩阵。

    The ending of the name chooses the format. Raises UserError where matplotlib is not installed, the ending is
    unknown, or the file cannot be written.
    """
    kind, buffer = kind_of_picture(path), io.BytesIO()
    _figure(found).savefig(buffer, format=kind, dpi=150)
    write_bytes(path, buffer.getvalue())


def kind_of_picture(path: Path) -> str:
    """The format that a name ends with; errors are those of `write_figure`. 由文件名得到图片格式。"""
    kind = path.suffix.removeprefix(".").lower()
    if kind not in _blank(1).canvas.get_supported_filetypes():
        raise UserError(f"{path}: expected the name of a picture, such as diagnosis.png or .svg")
    return kind


def write_page(path: Path, found: Diagnosis, title: str) -> None:
    """One HTML file with the table, the figure and an example of each rule. 自包含的 HTML 报告。

    Raises UserError where matplotlib is not installed or the file cannot be written.
    """
    heads, *rows = rows_of(found)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    examples = [] if isinstance(found, TextDiagnosis) else [_example(each) for each in found.rules]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<table><tr>{head}</tr>{body}</table>",
        *(f"<p>{escape(note)}</p>" for note in _notes(found)),
        _svg(_figure(found)),
        *(["<h2>Examples · 示例</h2>", *examples] if examples else []),
    ]
    write_text(path, _PAGE.format(title=escape(title), body="\n".join(parts)))


def _example(found: RuleDiagnosis) -> str:
    return f"<h3>{escape(found.repetition.name)}</h3><pre>{escape(found.example)}</pre>"


def _blank(panels: int) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("pictures are drawn with matplotlib: pip install 'hanformer[plot]'") from None
    return Figure(figsize=(5.5 * panels, 4), layout="constrained")


def _figure(found: Diagnosis) -> Figure:
    endings = found.rules if isinstance(found, ModelDiagnosis) else ()
    panels = bool(endings) + 1 + (found.transitions is not None)
    figure = _blank(panels)
    axes = list(figure.subplots(1, panels))
    if found.transitions is not None:
        _draw_transitions(axes.pop(0), found.transitions)
    if endings:
        _draw_endings(axes.pop(0), endings)
    rows = found.rows if isinstance(found, TextDiagnosis) else [each.repetition for each in endings]
    _draw_metrics(axes.pop(0), rows)
    return figure


def _draw_transitions(axes: Axes, found: Transitions) -> None:
    shown = found.matrix[:60, :60]
    image = axes.imshow(shown.numpy(), cmap="viridis", vmin=0)
    axes.figure.colorbar(image, ax=axes, label="p(next | this)")
    axes.set(
        title=f"The {len(shown)} most frequent tokens",
        xlabel="next, by frequency",
        ylabel="this, by frequency",
    )


def _draw_endings(axes: Axes, found: Sequence[RuleDiagnosis]) -> None:
    for place, each in enumerate(found):
        color = _COLORS[place % len(_COLORS)]
        axes.plot(each.lengths, each.unfinished, label=each.repetition.name, color=color, linewidth=1.4)
    axes.set(title="Texts that have not ended", xlabel="new tokens", ylabel="share", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _draw_metrics(axes: Axes, rows: Sequence[Repetition]) -> None:
    width = 0.8 / len(rows)
    for place, row in enumerate(rows):
        heights = [row.in_window, row.ngrams, row.bigrams]
        places = [start + place * width for start in range(len(heights))]
        axes.bar(places, heights, width, label=row.name, color=_COLORS[place % len(_COLORS)])
    axes.set_xticks([start + 0.4 - width / 2 for start in range(len(_METRICS))], _METRICS)
    axes.set(title="Repetition", ylabel="share", ylim=(0, 1))
    axes.legend(fontsize=8)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body{{font:16px/1.6 system-ui,"Noto Sans SC","PingFang SC",sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}th,td{{text-align:right;padding:.25rem .6rem;border-bottom:1px solid #ddd}}
th:first-child,td:first-child{{text-align:left}}svg{{max-width:100%;height:auto}}
pre{{white-space:pre-wrap;background:#f7f7f5;padding:.6rem 1rem}}
</style></head><body>
{body}
</body></html>
"""
