"""A run as a page to look at: curves, accuracy by type, solved problems, in one HTML file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hanformer.arithmetic.evaluation import Evaluation, Judged, Score
from hanformer.errors import UserError
from hanformer.train.history import History
from hanformer.train.runs import read_description
from hanformer.weights.atomic import write_text


@dataclass(frozen=True)
class Report:
    """What a report shows. 报告的内容。"""

    title: str
    run: Path
    history: History
    evaluations: Mapping[str, Evaluation]


def accuracy_table(title: str, evaluation: Evaluation) -> str:
    """Accuracy in all and by type, as aligned text. 以文本表格列出总正确率与各题型正确率。"""
    score = evaluation.score
    lines = [f"{title}: {score.right} of {score.total} right, {score.accuracy:.1%}"]
    for kind, part in evaluation.by_kind().items():
        # A Chinese character is two columns wide in a terminal.
        width = sum(2 if ord(character) > 0x2E7F else 1 for character in kind)
        lines.append(
            f"  {kind}{' ' * max(18 - width, 1)}{part.accuracy:6.1%}  ({part.right} of {part.total})"
        )
    return "\n".join(lines)


def judged_rows(title: str, evaluation: Evaluation) -> list[str]:
    """One JSON line a problem: its text, the given answer, the solution and whether it is right.

    每题一行 JSON。
    """
    return [json.dumps({"test": title, **_row(row)}, ensure_ascii=False) + "\n" for row in evaluation.judged]


def _row(row: Judged) -> dict[str, object]:
    found = row.solution
    return {
        "id": row.problem.id,
        "kind": row.problem.kind,
        "text": row.problem.text,
        "given": row.problem.answer,
        "expression": None if found is None else found.expression,
        "answer": None if found is None else found.answer,
        "right": row.right,
    }


def solved_text(evaluations: Mapping[str, Evaluation], count: int) -> str:
    """Some solved problems as text, of different types where there are types. 若干解题示例。"""
    lines = ["Some problems that training never saw:"]
    for row in _examples(next(iter(evaluations.values())), count):
        lines += [f"  {row.problem.text}", f"    {_written(row)}"]
    return "\n".join(lines)


def _examples(evaluation: Evaluation, count: int) -> list[Judged]:
    """The first problem of each type, right or wrong: nothing is picked for its result."""
    chosen: dict[str, Judged] = {}
    for index, row in enumerate(evaluation.judged):
        chosen.setdefault(row.problem.kind or str(index), row)
    return list(chosen.values())[:count]


def _examples_section(title: str, evaluation: Evaluation) -> str:
    cards = "".join(_card(row) for row in _examples(evaluation, 30))
    return f"<details open><summary>{escape(title)}</summary>{cards}</details>"


def _written(row: Judged) -> str:
    if row.solution is None:
        return f"no solution (the answer is {row.problem.answer})"
    verdict = "right" if row.right else f"wrong: the answer is {row.problem.answer}"
    return f"{row.solution.expression} = {row.solution.answer}  ({verdict})"


def write_report(path: Path, report: Report) -> None:
    """Writes the page: one HTML file that needs nothing else.

    写出报告：单个自包含的 HTML 文件。

    Raises UserError where matplotlib is not installed or the file cannot be written.
    """
    description = read_description(report.run)
    body = [
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="lead">{escape(_summary(report))}</p>',
        "<h2>Training · 训练过程</h2>",
        _curves(report.history),
        *(_table(title, evaluation) for title, evaluation in report.evaluations.items()),
        "<h2>Solved problems · 解题示例</h2>",
        "<p>The first problem of each type, whether solved or not: nothing is picked for its result.</p>",
        *(_examples_section(title, evaluation) for title, evaluation in report.evaluations.items()),
        "<h2>How it was made · 运行信息</h2>",
        f"<details><summary>data, recipe, machine</summary>{_facts(description)}</details>",
        "<h2>Next · 下一步</h2>",
        f'<pre>hanformer solve {escape(str(report.run))} "题目"\n'
        f"hanformer evaluate {escape(str(report.run))} --beams 3\n"
        "hanformer train arithmetic --data PATH --out runs/mine</pre>",
    ]
    write_text(path, _PAGE.format(title=escape(report.title), style=_STYLE, body="\n".join(body)))


def _summary(report: Report) -> str:
    parts = [f"{title}: {e.score.accuracy:.1%} of {e.score.total}" for title, e in report.evaluations.items()]
    minutes = report.history.records[-1].seconds / 60 if report.history.records else 0.0
    return f"{'; '.join(parts)}. Trained in {minutes:.1f} minutes."


def _table(title: str, evaluation: Evaluation) -> str:
    rows = [("All · 合计", evaluation.score), *evaluation.by_kind().items()]
    lines = "".join(_table_row(name, score) for name, score in rows)
    head = "<tr><th>Type · 题型</th><th>Right</th><th>Problems</th><th>Accuracy · 正确率</th><th></th></tr>"
    return f"<h2>Accuracy on {escape(title)}</h2><table>{head}{lines}</table>"


def _table_row(name: str, score: Score) -> str:
    bar = f'<div class="bar"><div style="width:{score.accuracy:.1%}"></div></div>'
    return (
        f"<tr><td>{escape(name)}</td><td>{score.right}</td><td>{score.total}</td>"
        f"<td>{score.accuracy:.1%}</td><td>{bar}</td></tr>"
    )


def _card(row: Judged) -> str:
    kind = f"<b>{escape(row.problem.kind)}</b> " if row.problem.kind else ""
    mark = "right" if row.right else "wrong"
    return (
        f'<div class="card {mark}">{kind}{escape(row.problem.text)}<pre>{escape(_written(row))}</pre></div>'
    )


def _facts(description: Mapping[str, object]) -> str:
    shown = {
        name: value for name, value in description.items() if name in ("data", "counts", "machine", "recipe")
    }
    return f"<pre>{escape(json.dumps(shown, ensure_ascii=False, indent=2))}</pre>"


def _curves(history: History) -> str:
    """Loss and validation accuracy against minutes, as inline SVG."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("the report draws curves with matplotlib: pip install 'hanformer[plot]'") from None
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    training, validations = history.training, history.validations
    loss.plot([r.seconds / 60 for r in training], [r.loss for r in training], color="#31688e", linewidth=1.2)
    loss.set(xlabel="minutes", ylabel="loss, nats per target token", yscale="log", title="Training loss")
    accuracy.plot(
        [r.seconds / 60 for r in validations],
        [100 * r.metrics.get("accuracy", 0.0) for r in validations],
        color="#b5442e",
        marker="o",
        markersize=3,
    )
    accuracy.set(xlabel="minutes", ylabel="percent right", ylim=(0, 100), title="Validation accuracy, greedy")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _svg(figure: object) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})  # type: ignore[attr-defined]
    text = buffer.getvalue()
    return text[text.index("<svg") :]


_STYLE = """
body{font:16px/1.6 system-ui,"Noto Sans SC","PingFang SC","Microsoft YaHei",sans-serif;max-width:60rem;
margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{margin-bottom:.2rem}h2{margin-top:2.2rem;font-size:1.2rem}.lead{color:#555}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #e5e5e5}
.bar{background:#eee;height:.7rem;width:12rem;border-radius:.35rem}
.bar div{background:#31688e;height:100%;border-radius:.35rem}
.card{border-left:4px solid #3a8f5c;background:#f7f7f5;margin:.8rem 0;padding:.6rem 1rem}
.card.wrong{border-color:#b5442e}
summary{cursor:pointer;font-weight:600;margin:.8rem 0}
pre{white-space:pre-wrap;margin:.4rem 0 0;font-size:.92rem}svg{max-width:100%;height:auto}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>
{body}
</body></html>
"""
