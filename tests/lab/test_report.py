"""The table of experiments, their page, and the command."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanformer.cli import app
from hanformer.errors import UserError
from hanformer.lab import EXPERIMENTS, run_experiment
from hanformer.lab.report import Picture, Report, Table, figure, svg, write_report


def drawn() -> Picture:
    picture = figure()
    picture.subplots().plot([1, 2], [3, 4])
    return Picture("line", "A line & more", picture)


def test_every_experiment_can_be_found() -> None:
    for experiment in EXPERIMENTS.values():
        module, _, function = experiment.target.partition(":")
        room = import_module(module)
        assert callable(getattr(room, function)) and room.Options() == room.Options()
        assert experiment.english.endswith(".") and experiment.chinese.endswith("。")


def test_a_page_holds_everything_and_needs_nothing(tmp_path: Path) -> None:
    table = Table("T < U", ("a", "bb"), (("1", "2"), ("333", "4")))
    page = write_report(tmp_path / "deep" / "er", Report("Title", ("Found <this>.",), (table,), (drawn(),)))
    text = page.read_text(encoding="utf-8")
    for part in ("Found &lt;this&gt;.", "<svg", "A line &amp; more", "<td>333</td>", "T &lt; U"):
        assert part in text
    assert not [part for part in ("<script", "<link", "<img", "src=") if part in text]
    assert (page.parent / "line.svg").read_text(encoding="utf-8").startswith("<svg")
    assert table.text() == "T < U\n  a    bb\n  1    2\n  333  4"


def test_the_same_figure_is_the_same_bytes() -> None:
    assert svg(drawn().figure) == svg(drawn().figure)


def test_the_list() -> None:
    found = CliRunner().invoke(app, ["lab"])
    assert found.exit_code == 0
    assert all(name in found.stdout and one.chinese in found.stdout for name, one in EXPERIMENTS.items())


def test_options_without_an_experiment_are_no_list() -> None:
    with pytest.raises(UserError, match=r"name the experiment first: one of attention.*, gelu"):
        CliRunner().invoke(app, ["lab", "--set", "points=3"], catch_exceptions=False)


def test_a_run(tmp_path: Path) -> None:
    arguments = ["lab", "positions", "--out", str(tmp_path), "--set", "size=16", "--set", "distance=9"]
    found = CliRunner().invoke(app, [*arguments, "--threads", "1"])
    assert found.exit_code == 0 and "16 channels" in found.stdout
    assert (tmp_path / "report.html").is_file() and (tmp_path / "positions.svg").is_file()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gelus", {}, "lab: expected one of attention, .*gelu.*got 'gelus'"),
        ("gelu", {"pints": "3"}, "unknown name 'pints'; there are points, reach"),
        ("gelu", {"points": "x"}, "expected a whole number"),
        ("gelu", {"points": "3"}, "at least 100 points"),
        ("gelu", {"data": "a.txt"}, "unknown name 'data'"),
        ("positions", {"size": "7"}, "even size"),
        ("attention", {"steps": "0"}, "at least 1"),
        ("attention", {"rate": "-1"}, "the learning rate must be above 0, got -1"),
        ("attention", {"mechanisms": "softmax,locale"}, "got 'locale'"),
        ("attention", {"data": "no-such-file.txt"}, "no-such-file.txt"),
    ],
)
def test_mistakes(name: str, options: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run_experiment(name, tmp_path, options)


def test_a_report_that_could_not_be_written_is_told_before_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanformer.lab.positions.run", lambda out, options: pytest.fail("it began"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"{place}: cannot be written"):
            run_experiment("positions", place)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="pip install 'hanformer\\[plot\\]'"):
        run_experiment("positions", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_values_of_options_need_not_be_words(tmp_path: Path) -> None:
    assert "16 channels" in run_experiment("positions", tmp_path, {"size": 16, "distance": 9}).text()
    report = run_experiment("rnn-gradients", tmp_path, {"kinds": ("lstm", "gru"), "steps": 3, "size": 4})
    assert [row[0] for row in report.tables[0].rows] == ["lstm", "gru"]


def test_data_are_for_experiments_that_read_them() -> None:
    with pytest.raises(UserError, match="--data: gelu reads no text"):
        CliRunner().invoke(app, ["lab", "gelu", "--data", "x.txt"], catch_exceptions=False)
