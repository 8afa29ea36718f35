"""Comparisons: what a file may say, the commands that it stands for, and what is kept of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

import pytest
from typer.testing import CliRunner

from hanformer.cli import app
from hanformer.cli.command import read_command
from hanformer.cli.training import Training
from hanformer.errors import UserError
from hanformer.lab.comparing import RESULT_FILE, read_results, run_command, run_comparison
from hanformer.lab.comparison import Places, evaluate_command, read_comparison, slug, train_command
from hanformer.lab.comparison_report import markdown, report_of

TEXT = """
title = "Two ways"
train = 'classify --data "{data}/a set" --set x=1'
curve = "accuracy"
seeds = [3, 4]
[evaluate]
test = "--data {data}/t"
[figures]
accuracy = "percent"
loss = "number"
[variants]
plain = ""
"with R-Drop" = "--trick r_drop"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "comparison.toml"
    path.write_text(text, encoding="utf-8")
    return path


class Commands:
    """Stands for the commands: leaves what a training leaves, and gives figures by seed."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.seen: list[list[str]] = []
        self.fails_at = fails_at

    def __call__(self, words: Sequence[str], capture: bool) -> str:
        self.seen.append(list(words))
        if len(self.seen) == self.fails_at:
            raise UserError("cut")
        if words[0] == "evaluate":
            assert capture
            seed = int(words[1][-1])
            return json.dumps({"accuracy": seed / 10, "loss": 1.5})
        if words[0] == "train":
            self._train(Path(words[words.index("--out") + 1]))
        return ""

    def _train(self, run: Path) -> None:
        (run / "last").mkdir(parents=True, exist_ok=True)
        (run / "best").mkdir(exist_ok=True)
        (run / "best" / "metrics.json").write_text('{"accuracy": 0.25}')
        (run / "run.toml").write_text("")
        records = [
            {"update": 5, "epoch": 1.0, "seconds": 60.0, "metrics": {"accuracy": 0.5}},
            {"update": 9, "epoch": 2.0, "seconds": 120.0, "loss": 0.1},
        ]
        (run / "history.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def in_process(words: Sequence[str], capture: bool) -> str:
    """Runs a command as the command line would."""
    app(list(words), standalone_mode=False)
    return ""


def test_commands_are_what_a_user_would_type(tmp_path: Path) -> None:
    comparison = read_comparison(written(tmp_path, TEXT))
    places = Places(tmp_path / "out", Path("/d"))
    assert train_command(comparison, places, "with R-Drop", 4) == [
        *("train", "classify", "--data", "/d/a set", "--set", "x=1", "--trick", "r_drop"),
        *("--set", "train.seed=4", "--out", str(tmp_path / "out/with-r-drop/seed-4")),
    ]


def test_every_variant_and_seed_is_judged_once_and_reported(tmp_path: Path) -> None:
    comparison = read_comparison(written(tmp_path, TEXT))
    places, commands = Places(tmp_path / "out", tmp_path), Commands()
    results = run_comparison(
        comparison, places, run=commands, extra=["--threads", "1"], said=lambda text: None
    )
    assert [(result.variant, result.seed) for result in results] == [
        *(("plain", 3), ("plain", 4), ("with R-Drop", 3), ("with R-Drop", 4)),
    ]
    assert len(commands.seen) == 8 and all(words[-2:] == ["--threads", "1"] for words in commands.seen)
    report = report_of(comparison, places, results)
    cell = "35.00 ± 7.07 % (30.00, 40.00)"  # the deviation of 0.3 and 0.4 is sqrt(0.005)
    assert report.tables[0].rows[0] == ("plain", cell, "1.5000 ± 0.0000 (1.5000, 1.5000)", "2.0")
    assert markdown(report.tables[0]).count("\n") == 4
    run_comparison(comparison, places, run=commands, said=lambda text: None)
    assert len(commands.seen) == 8


def test_evaluations_called_by_numbers_are_drawn_along_them(tmp_path: Path) -> None:
    text = TEXT.split("[evaluate]")[0] + '[evaluate]\n"64" = "--data a"\n"512" = "--data b"\n\n[figures]'
    comparison = read_comparison(written(tmp_path, text + TEXT.split("[figures]")[1]))
    places = Places(tmp_path / "out", tmp_path)
    results = run_comparison(comparison, places, run=Commands(), said=lambda text: None)
    drawn, _ = report_of(comparison, places, results).pictures
    axes = drawn.figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "512"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[64, 512]] * 2
    assert axes.lines[0].get_ydata()[0] == pytest.approx(0.35)


def test_a_comparison_that_was_cut_goes_on(tmp_path: Path) -> None:
    comparison = read_comparison(written(tmp_path, TEXT))
    places = Places(tmp_path / "out", tmp_path)
    with pytest.raises(UserError, match="cut"):
        run_comparison(comparison, places, run=Commands(fails_at=4), said=lambda text: None)
    assert len(read_results(comparison, places)) == 1
    later = Commands()
    assert len(run_comparison(comparison, places, run=later, said=lambda text: None)) == 4
    assert later.seen[0][-1] == "--resume" and "with-r-drop" in later.seen[0][-2]
    assert not any("--resume" in words for words in later.seen[1:])


def test_a_training_that_was_cut_before_its_first_checkpoint_goes_on(tmp_path: Path) -> None:
    """Such a run is a folder with run.toml and no state: a command without --resume would refuse it."""
    file = tmp_path / "rows.tsv"
    file.write_text("".join(f"{'好' if n % 2 else '坏'}\t{n % 2}\n" for n in range(20)), encoding="utf-8")
    text = '''
title = "One"
train = """classify --data {data}/rows.tsv --set layers=1 --set hidden_size=8 --set attention_heads=1
  --set valid=4 --set updates=2"""
curve = "accuracy"
seeds = [0]
[figures]
accuracy = "percent"
[variants]
plain = ""
'''
    comparison = read_comparison(written(tmp_path, text))
    places = Places(tmp_path / "out", tmp_path)
    run_comparison(comparison, places, run=in_process, said=lambda text: None)
    folder = places.run("plain", 0)
    history = (folder / "history.jsonl").read_text(encoding="utf-8")
    for name in ("best", "last"):
        rmtree(folder / name)
    (folder / "result.json").unlink()
    run_comparison(comparison, places, run=in_process, said=lambda text: None)
    assert len((folder / "history.jsonl").read_text(encoding="utf-8").splitlines()) == len(
        history.splitlines()
    )
    assert (folder / "best").is_dir()


def test_all_commands_are_checked_before_any_runs(tmp_path: Path) -> None:
    comparison = read_comparison(written(tmp_path, TEXT))
    places, commands, checked = Places(tmp_path / "out", tmp_path), Commands(), []

    def check(words: Sequence[str]) -> None:
        checked.append(words[0])
        if "r_drop" in words:
            raise UserError("no such trick")

    with pytest.raises(UserError, match="with R-Drop: no such trick"):
        run_comparison(comparison, places, run=commands, check=check, said=lambda text: None)
    run_comparison(comparison, places, ["plain"], run=commands, check=check, said=lambda text: None)
    assert checked == ["train", "train", "train", "evaluate"] and len(commands.seen) == 4


def test_results_of_two_recipes_do_not_mix(tmp_path: Path) -> None:
    places, commands = Places(tmp_path / "out", tmp_path), Commands()
    run_comparison(read_comparison(written(tmp_path, TEXT)), places, run=commands, said=lambda text: None)
    for old, new in (("x=1", "x=2"), ("r_drop", "fgm"), ("{data}/t", "{data}/u")):
        changed = read_comparison(written(tmp_path, TEXT.replace(old, new)))
        with pytest.raises(UserError, match="by other commands than the file has now"):
            run_comparison(changed, places, run=commands, said=lambda text: None)
        with pytest.raises(UserError, match="do not mix"):
            read_results(changed, places)
    reflowed = read_comparison(written(tmp_path, TEXT.replace("--set x=1'", "--set   x=1 '")))
    assert len(read_results(reflowed, places)) == 4 and len(commands.seen) == 8


def test_an_evaluation_added_later_judges_the_same_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, commands = Places(tmp_path / "out", tmp_path), Commands()
    run_comparison(read_comparison(written(tmp_path, TEXT)), places, run=commands, said=lambda text: None)
    more = read_comparison(
        written(tmp_path, TEXT.replace("[figures]", 'more = "--data {data}/m"\n[figures]'))
    )
    assert read_results(more, places) == []  # none has all figures yet
    later = Commands()
    monkeypatch.setattr(
        "hanformer.lab.comparing.describe_machine", lambda: pytest.fail("judged, not trained")
    )
    results = run_comparison(more, places, run=later, said=lambda text: None)
    assert [words[0] for words in later.seen] == ["evaluate"] * 4
    assert all(set(result.figures) == {"test", "more"} for result in results)
    assert len(read_results(read_comparison(written(tmp_path, TEXT)), places)) == 4  # and taken back


def test_without_evaluation_the_best_validation_counts(tmp_path: Path) -> None:
    text = TEXT.replace('[evaluate]\ntest = "--data {data}/t"\n', "").replace('loss = "number"\n', "")
    comparison = read_comparison(written(tmp_path, text))
    results = run_comparison(
        comparison, Places(tmp_path / "out", tmp_path), ["plain"], run=Commands(), said=lambda text: None
    )
    assert [result.figures for result in results] == [{"validation": {"accuracy": 0.25}}] * 2


def test_what_is_prepared_is_prepared_once(tmp_path: Path) -> None:
    text = (
        TEXT
        + '[prepare]\nbase = "train pretrain --out {prepared}/base"\nother = "convert {prepared}/base x"\n'
    )
    comparison = read_comparison(written(tmp_path, text))
    places, commands = Places(tmp_path / "out", tmp_path), Commands()
    for _ in range(2):
        run_comparison(comparison, places, ["plain"], run=commands, said=lambda text: None)
    prepared = str(tmp_path / "out/prepared/base")
    assert commands.seen[:2] == [["train", "pretrain", "--out", prepared], ["convert", prepared, "x"]]
    assert len(commands.seen) == 2 + 4
    told = Commands()
    run_comparison(
        comparison,
        Places(tmp_path / "again", tmp_path),
        ["plain"],
        extra=["--threads", "1"],
        run=told,
        said=lambda _: None,
    )
    assert [words[-2:] == ["--threads", "1"] for words in told.seen] == [True, False, *([True] * 4)]


def test_what_starts_from_something_prepared_is_checked_before_it_trains(tmp_path: Path) -> None:
    text = TEXT + '[prepare]\nbase = "convert a {prepared}/base"\n'
    commands = Commands()

    def check(words: Sequence[str]) -> None:
        if words[0] == "train" and commands.seen:
            raise UserError("not of this size")

    with pytest.raises(UserError, match="plain: not of this size"):
        places = Places(tmp_path / "out", tmp_path)
        comparison = read_comparison(written(tmp_path, text))
        run_comparison(comparison, places, run=commands, check=check, said=lambda text: None)
    assert [words[0] for words in commands.seen] == ["convert"]


def test_a_report_that_could_not_be_drawn_is_told_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setattr("hanformer.lab.comparing.run_command", lambda *words: pytest.fail("it began"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "data" / "a set").mkdir()
    text = TEXT.replace(" --set x=1", "")
    command = ["compare", str(written(tmp_path, text)), "--data", str(tmp_path / "data")]
    with pytest.raises(UserError, match="the lab draws with matplotlib"):
        app([*command, "--out", str(tmp_path / "out")], standalone_mode=False)


def test_what_prepares_is_checked_too(tmp_path: Path) -> None:
    for wrong in ("train clasify --out x", "convert a b --unshar", ""):
        file = written(tmp_path, TEXT + f'[prepare]\nbase = "{wrong}"\n')
        (tmp_path / "data" / "a set").mkdir(parents=True, exist_ok=True)
        with pytest.raises(UserError, match="prepare base: "):
            app(["compare", str(file), "--data", str(tmp_path / "data")], standalone_mode=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("title", "titel"), "unknown name 'titel'"),
        (('curve = "accuracy"', ""), 'curve is missing; for example curve = "accuracy"'),
        (("[3, 4]", '["a"]'), "list of whole numbers"),
        (('"percent"', '"share"'), "percent or number"),
        (('plain = ""', "plain = 3"), "table of names and texts"),
        (('plain = ""', "plain = '\"'"), "no command line"),
        (("[evaluate]", "[evaluate"), "cannot be read as TOML"),
    ],
)
def test_files_that_say_something_else_are_refused(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        read_comparison(written(tmp_path, TEXT.replace(*change)))


def test_mistakes_are_told(tmp_path: Path) -> None:
    comparison = read_comparison(written(tmp_path, TEXT))
    with pytest.raises(UserError, match="unknown variant 'fgm'"):
        run_comparison(comparison, Places(tmp_path), ["fgm"], run=Commands())
    with pytest.raises(UserError, match="--data"):
        run_comparison(comparison, Places(tmp_path), run=Commands(), said=lambda text: None)
    with pytest.raises(UserError, match="no such file"):
        read_comparison(tmp_path / "none.toml")
    broken = tmp_path / slug("plain") / "seed-3" / RESULT_FILE
    broken.parent.mkdir(parents=True)
    odd = {"variant": "plain", "seed": 3, "figures": {}, "seconds": 1, "machine": {}, "asked": {"train": ""}}
    for text in ("{", json.dumps(odd)):
        broken.write_text(text)
        with pytest.raises(UserError, match="cannot be read as a result"):
            read_results(comparison, Places(tmp_path))


def test_the_command_reports_what_is_done(tmp_path: Path) -> None:
    file, out = written(tmp_path, TEXT), tmp_path / "out"
    words = ["compare", str(file), "--out", str(out), "--table"]
    with pytest.raises(UserError, match="nothing is done yet"):
        app(words, standalone_mode=False)
    with pytest.raises(UserError, match="is no folder"):
        app([*words, "--data", str(tmp_path / "none")], standalone_mode=False)
    run_comparison(
        read_comparison(file), Places(out, tmp_path), ["plain"], run=Commands(), said=lambda text: None
    )
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0 and "35.00 ± 7.07 % (30.00, 40.00)" in told.output
    assert "<svg" in (out / "report.html").read_text(encoding="utf-8")
    assert (out / "table.md").read_text(encoding="utf-8").startswith("| variant | test accuracy |")


def test_a_command_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        UserError, match="`hanformer evaluate nowhere` ended with code 2; what is done is kept"
    ):
        run_command(["evaluate", "nowhere"], capture=False)
    assert "no such run folder" in capfd.readouterr().err


EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.toml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_experiments_of_the_repository_ask_for_what_exists(path: Path, tmp_path: Path) -> None:
    comparison = read_comparison(path)
    assert comparison.chinese and len(comparison.seeds) >= 3
    places = Places(tmp_path / "out", tmp_path / "nowhere")
    for variant in comparison.variants:
        asked = read_command(app, [*train_command(comparison, places, variant, 0), "--threads", "1"])
        assert isinstance(asked, Training) and asked.choose()
    for name in comparison.evaluate:
        read_command(app, evaluate_command(comparison, places, tmp_path, name))
    for text in comparison.prepare.values():
        read_command(app, places.filled(text))


def test_a_mistake_in_any_variant_is_told_before_any_training(tmp_path: Path) -> None:
    text = TEXT.replace(" --set x=1", "")
    (tmp_path / "a set").mkdir()
    words = ["compare", "", "--out", str(tmp_path / "out"), "--data", str(tmp_path)]
    for wrong, said in (
        ("--trick r_dorp", "with R-Drop: .*r_dorp"),
        ("--tricks r_drop", "with R-Drop: No such option"),
        ("--set hidden_sise=3", "did you mean"),
        ("--set attention=synthesizer", "no queries and keys for the position 'rotary'"),
    ):
        words[1] = str(written(tmp_path, text.replace("--trick r_drop", wrong)))
        with pytest.raises(UserError, match=said):
            app(words, standalone_mode=False)
    words[1] = str(written(tmp_path, text.replace("classify", "clasify")))
    with pytest.raises(UserError, match="expected a command, one of arithmetic"):
        app(words, standalone_mode=False)
    with pytest.raises(UserError, match="unknown variant 'x'"):
        app([*words, "--table", "--only", "x"], standalone_mode=False)
    assert not (tmp_path / "out").exists()
