"""The report of a training run: its curves, its choices and its best validation, on one page.

训练报告：曲线、选项与最佳验证结果。
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hanformer.errors import UserError
from hanformer.lab.report import Picture, Report, Table, figure, tidy, write_report
from hanformer.train.history import HISTORY_FILE, History, Record
from hanformer.train.progress import clock
from hanformer.train.runs import BEST, read_description, run_of

Curve = tuple[str, Callable[[Record], float | None]]
_TRAINING: tuple[Curve, ...] = (
    ("loss", lambda record: record.loss),
    ("learning rate", lambda record: record.learning_rate),
    ("gradient norm", lambda record: record.gradient_norm),
    ("tokens a second", lambda record: record.tokens_per_second),
)


def report_run(path: str | Path, out: str | Path | None = None) -> Path:
    """Writes the report of a run of any task, as one page that needs nothing else; returns the page's path.

    写出任一任务训练目录的自包含网页报告。

    `out` is the folder for the page and its figures as SVG; by default `report` in the run folder. Raises UserError for
    a folder that is no run, and a run without a record.
    """
    folder = run_of(path)
    description = read_description(folder)
    history = History.read(folder / HISTORY_FILE)
    if not history.records:
        raise UserError(f"{folder}: the run has no record yet; let it train a little and ask again")
    report = Report(
        f"{description.get('task', 'run')} · {folder.name}",
        _findings(description, history),
        (*_best(folder, history), _choices(description)),
        (Picture("curves", "By updates: training above, validation below.", _draw(history)),),
    )
    return write_report(Path(out) if out is not None else folder / "report", report)


def _findings(description: Mapping[str, Any], history: History) -> tuple[str, ...]:
    last = history.records[-1]
    spent = f"{last.update:,} updates, {last.epoch:.2f} epochs, {clock(last.seconds)} of training"
    spent_chinese = f"共 {last.update:,} 次更新、{last.epoch:.2f} 轮，用时 {clock(last.seconds)}"
    return (f"Data: {description.get('data', '?')}. {spent}.", f"{spent_chinese}。")


def _best(folder: Path, history: History) -> tuple[Table, ...]:
    """The kept validation beside the last one."""
    last = history.validations[-1:]
    try:
        best: Mapping[str, Any] = json.loads((folder / BEST / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        best = {}
    if not last:
        return ()
    rows = tuple((name, _number(best.get(name)), _number(value)) for name, value in last[0].metrics.items())
    head = ("metric", f"best (update {best.get('update', '?')})", f"last (update {last[0].update})")
    return (Table("Validation · 验证", head, rows),)


def _choices(description: Mapping[str, Any]) -> Table:
    rows = tuple(_rows("", {name: value for name, value in description.items() if name != "files"}))
    return Table("run.toml", ("choice", "value"), rows)


def _rows(name: str, value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return [(name, _number(value))]
    prefix = f"{name}." if name else ""
    return [row for key, item in value.items() for row in _rows(f"{prefix}{key}", item)]


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "–" if value is None else str(value)


def _draw(history: History) -> Any:
    names = list(dict.fromkeys(name for record in history.validations for name in record.metrics))
    validation = [_of_metric(name) for name in names]
    columns = max(len(_TRAINING), min(len(names), 4))
    lines = 1 + -(-len(names) // columns)
    picture = figure(3.0 * columns, 2.6 * lines)
    axes = list(picture.subplots(lines, columns, squeeze=False).flat)
    for one, curve in zip(axes, _TRAINING, strict=False):
        _plot(one, curve, history.training, "#2b6cb0")
    for one, curve in zip(axes[columns:], validation, strict=False):
        _plot(one, curve, history.validations, "#b5442e")
    for one in (*axes[len(_TRAINING) : columns], *axes[columns + len(names) :]):
        one.set_axis_off()
    tidy(axes)
    return picture


def _of_metric(name: str) -> Curve:
    return name, lambda record: record.metrics.get(name)


def _plot(axes: Any, curve: Curve, records: list[Record], color: str) -> None:
    name, value_of = curve
    points = [(record.update, value_of(record)) for record in records if value_of(record) is not None]
    axes.plot(*zip(*points, strict=True), color=color, linewidth=1.2, marker="." if len(points) < 30 else "")
    axes.set(title=name, xlabel="update")
