"""What a comparison found: a table of means and spreads over seeds, and figures of every run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hanformer.lab.comparing import Result
from hanformer.lab.comparison import Comparison, Places
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.train.history import HISTORY_FILE, History

_COLORS = ("#2b6cb0", "#b5442e", "#2f855a", "#805ad5", "#b7791f", "#4a5568", "#d53f8c", "#319795")
#: After so many variants the colours come again, in another line.
_LINES = ("-", "--", ":")


def report_of(comparison: Comparison, places: Places, results: Sequence[Result]) -> Report:
    """The table and the figures of the results so far; evaluations that are called by numbers, such as lengths, are
    drawn along them.

    由已有结果生成表格与图；以数字（如长度）命名的评测画成曲线。
    """
    along = all(test.isdecimal() for test in comparison.tests) and len(comparison.tests) > 1
    shown = (
        Picture("figures", "The mean over seeds, with the range of the seeds.", _along(comparison, results))
        if along
        else Picture("figures", "Every seed is a point, the line is the mean.", _points(comparison, results))
    )
    titles = [comparison.title, *([comparison.chinese] if comparison.chinese else [])]
    return Report(
        titles[0],
        (
            *titles[1:],
            f"train {comparison.train}",
            "Mean ± standard deviation over seeds; then every seed. 各种子的均值 ± 标准差。",
        ),
        (results_table(comparison, results),),
        (
            shown,
            Picture(
                "curves",
                f"Validation: {comparison.curve}; thick: the mean over seeds.",
                _curves(comparison, places, results),
            ),
        ),
    )


def results_table(comparison: Comparison, results: Sequence[Result]) -> Table:
    """Rows of variants: each figure of each evaluation, and the minutes of a training.

    结果表：每个变体一行。
    """
    columns = [(test, name) for test in comparison.tests for name in comparison.figures]
    head = ("variant", *(f"{test} {name}" for test, name in columns), "minutes")
    rows = []
    for variant in comparison.variants:
        own = [result for result in results if result.variant == variant]
        if not own:
            continue
        cells = [_cell(_values(own, test, name), comparison.figures[name]) for test, name in columns]
        rows.append((variant, *cells, f"{mean(result.seconds for result in own) / 60:.1f}"))
    return Table("Results · 结果", head, tuple(rows))


def markdown(table: Table) -> str:
    """The table as Markdown. 转为 Markdown 表格。"""
    lines = [table.head, ("---",) * len(table.head), *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _values(results: Sequence[Result], test: str, name: str) -> list[float]:
    return [result.figures[test][name] for result in results if name in result.figures.get(test, {})]


def _cell(values: Sequence[float], kind: str) -> str:
    """`85.21 ± 0.30 % (85.00, 85.42)`; one seed has no spread, and no seed a dash."""
    if not values:
        return "–"
    scale, digits, unit = (100, 2, " %") if kind == "percent" else (1, 4, "")
    shown = [f"{scale * value:.{digits}f}" for value in values]
    if len(values) == 1:
        return f"{shown[0]}{unit}"
    return (
        f"{scale * mean(values):.{digits}f} ± {scale * stdev(values):.{digits}f}{unit} ({', '.join(shown)})"
    )


def _points(comparison: Comparison, results: Sequence[Result]) -> Any:
    columns = [(test, name) for test in comparison.tests for name in comparison.figures]
    names = [name for name in comparison.variants if any(result.variant == name for result in results)]
    picture = figure(9.0, max(2.0, 0.45 * len(names) + 1.0) * len(columns))
    for axes, (test, name) in zip(
        picture.subplots(len(columns), 1, squeeze=False)[:, 0], columns, strict=True
    ):
        for place, variant in enumerate(names):
            values = _values([result for result in results if result.variant == variant], test, name)
            color = _COLORS[place % len(_COLORS)]
            axes.plot(values, [place] * len(values), "o", color=color, alpha=0.7)
            if values:
                axes.plot([mean(values)] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(f"{test}: {name}")
        tidy([axes])
    return picture


def _along(comparison: Comparison, results: Sequence[Result]) -> Any:
    """Each figure against the numbers that the evaluations are called by, in doublings."""
    picture = figure(9.0, 4.0 * len(comparison.figures))
    panels = picture.subplots(len(comparison.figures), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, comparison.figures, strict=True):
        for place, variant in enumerate(comparison.variants):
            own = [result for result in results if result.variant == variant]
            found = {int(test): values for test in comparison.tests if (values := _values(own, test, name))}
            lengths = sorted(found)
            color, line = _style(place)
            ranges = [min(found[length]) for length in lengths], [max(found[length]) for length in lengths]
            axes.fill_between(lengths, *ranges, color=color, alpha=0.15, linewidth=0)
            means = [mean(found[length]) for length in lengths]
            if lengths:
                axes.plot(lengths, means, line, color=color, marker="o", markersize=3, label=variant)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(map(int, comparison.tests)), sorted(comparison.tests, key=int))
        axes.set(ylabel=name)
        axes.legend(fontsize=8)
        tidy([axes])
    return picture


def _style(place: int) -> tuple[str, str]:
    """The colour and the line of a variant."""
    return _COLORS[place % len(_COLORS)], _LINES[place // len(_COLORS) % len(_LINES)]


def _curves(comparison: Comparison, places: Places, results: Sequence[Result]) -> Any:
    picture = figure(9.0, 4.0)
    axes = picture.subplots()
    for place, variant in enumerate(comparison.variants):
        runs = [places.run(variant, result.seed) for result in results if result.variant == variant]
        curves = [_curve(run, comparison.curve) for run in runs]
        if not curves:
            continue
        color, line = _style(place)
        for curve in curves:
            axes.plot(curve.keys(), curve.values(), line, color=color, linewidth=0.7, alpha=0.4)
        shared = [update for update in curves[0] if all(update in curve for curve in curves)]
        means = [mean(curve[update] for curve in curves) for update in shared]
        axes.plot(shared, means, line, color=color, linewidth=1.8, label=variant)
    axes.set(xlabel="update", ylabel=comparison.curve)
    axes.legend(fontsize=8)
    tidy([axes])
    return picture


def _curve(run: Path, name: str) -> dict[int, float]:
    """The metric of each validation, by update."""
    records = [record for record in History.read(run / HISTORY_FILE).validations if name in record.metrics]
    return {record.update: record.metrics[name] for record in records}
