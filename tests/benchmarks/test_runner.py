"""The benchmark runner: checks come first, sides take turns, ratios are right, both settings end in one table."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from benchmarks import measure, runner
from benchmarks.measure import Case, Difference, Result, Round, Side
from benchmarks.runner import Session
from hanformer.errors import UserError


def burn(seconds: float) -> None:
    """Keeps the processor busy for some CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def make_case(name: str = "a case", log: list[str] | None = None, difference: str = "") -> Case:
    """Two sides, of which the second takes four times as long; they write into `log` when they run."""
    log = [] if log is None else log

    def run(side: str, seconds: float) -> None:
        log.append(side)
        burn(seconds)

    def check() -> str:
        log.append("check")
        if difference:
            raise Difference(difference)
        return "outputs are equal"

    sides = [Side("ours", partial(run, "ours", 0.005)), Side("theirs", partial(run, "theirs", 0.02))]
    return Case(name, "token", 100, True, sides, check)


def fake_cases(chosen: argparse.Namespace) -> Iterator[Case]:
    yield make_case("short rows")
    yield make_case("long rows")


def test_sides_take_turns() -> None:
    log: list[str] = []
    measure.measure(make_case(log=log), 3, "default")
    assert log == ["ours", "theirs", *["ours", "theirs"], *["theirs", "ours"], *["ours", "theirs"]]


def test_ratios_are_those_of_single_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 2.0, 30.0, 10.0, 4.0, 16.0])  # ours 1, 10, 4; theirs 2, 30, 16
    monkeypatch.setattr(measure, "time_once", lambda run: _round(next(seconds)))
    ours, theirs = measure.measure(make_case(), 3, "default")
    assert ours.rates == (100.0, 10.0, 25.0) and ours.rate == 25.0 and ours.rate_unit == "tokens/s"
    assert ours.time_ratios == (1.0, 1.0, 1.0) and theirs.time_ratios == (2.0, 3.0, 4.0)
    assert theirs.time_ratio == 3.0 and theirs.cpu_ratio == 3.0
    assert theirs.cpu == 8.0


def _round(seconds: float) -> Round:
    return Round(wall=seconds, cpu=seconds / 2, faults=7)


def test_a_round_counts_its_own_cpu_time() -> None:
    round_ = measure.time_once(partial(burn, 0.03))
    assert 0.03 <= round_.cpu < 0.3 and round_.wall >= 0.03
    asleep = measure.time_once(partial(time.sleep, 0.05))
    assert asleep.cpu < 0.04 < asleep.wall


def test_milliseconds_a_unit() -> None:
    case = Case("generation", "step", 32, False, [], lambda: "")
    assert case.rate(3.2) == pytest.approx(100.0) and case.rate_unit == "ms/step"


def test_less_than_one_round_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1, got 0"):
        measure.measure(make_case(), 0, "default")


def test_a_difference_stops_before_anything_is_timed() -> None:
    log: list[str] = []
    chosen = runner.parser("", "fake").parse_args(["--threads", "1"])
    with pytest.raises(Difference, match="token 3 differs"):
        runner.run_session(chosen, lambda _: [make_case(log=log, difference="token 3 differs")], "default")
    assert log == ["check"]


def test_main_ends_with_2_after_a_difference(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    arguments = ["--threads", "1", "--out", str(out), "--allocator", "default"]
    cases = partial(_different, "token 3 differs")
    assert runner.main("fake", runner.parser("", "fake"), cases, arguments) == 2
    assert "token 3 differs" in capfd.readouterr().err and not out.exists()


def _different(text: str, chosen: argparse.Namespace) -> list[Case]:
    return [make_case(difference=text)]


def test_main_writes_one_table_and_one_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "out.json"
    arguments = ["--threads", "1", "--out", str(out), "--allocator", "default", "--rounds", "2"]
    arguments += ["--cases", "long"]
    assert runner.main("fake", runner.parser("", "fake"), fake_cases, arguments) == 0
    printed = capfd.readouterr().out
    assert printed.count("| long rows |") == 2 and "short rows" not in printed
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["seed"] == 0 and written["commit"] and written["versions"]["torch"]
    (session,) = written["sessions"]
    assert session["machine"]["threads"] == 1 and session["checks"] == {"long rows": "outputs are equal"}
    ours, theirs = session["results"]
    assert len(ours["rounds"]) == 2 and theirs["cpu_ratios"][0] > 1.5


def test_no_case_of_that_name(tmp_path: Path) -> None:
    chosen = runner.parser("", "fake").parse_args(["--threads", "1", "--cases", "nothing"])
    with pytest.raises(UserError, match="'nothing'"):
        runner.run_session(chosen, fake_cases, "default")


def make_session(allocator: str, ours: float, theirs: float) -> Session:
    """A session with one case: CPU seconds of both sides."""
    results = tuple(
        Result(
            "a case",
            side,
            allocator,
            "ms/step",
            (seconds,),
            (Round(seconds, seconds, 0),),
            (ratio,),
            (ratio,),
        )
        for side, seconds, ratio in (("ours", ours, 1.0), ("theirs", theirs, theirs / ours))
    )
    machine = {"processor": "a chip", "threads": 2, "torch": "2.13.0"}
    return Session(allocator, (0.5, 0.4, 0.3), (1.5, 1.4, 1.3), 12.0, machine, {}, results)


def test_the_table_sets_both_allocators_beside_each_other() -> None:
    lines = runner.report([make_session("default", 4.0, 6.0), make_session("tuned", 2.0, 5.0)]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]]
    assert [row[1:3] for row in cells] == [
        ["ours", "default"],
        ["theirs", "default"],
        ["ours", "tuned"],
        ["theirs", "tuned"],
    ]
    assert [row[5] for row in cells] == ["1.00", "1.50", "1.00", "2.50"]
    assert [row[7] for row in cells] == ["2.00", "3.00", "1.00", "2.50"]
    assert "load 0.5 before, 1.5 after" in lines[-1]


def test_a_session_comes_back_from_json() -> None:
    session = make_session("tuned", 2.0, 5.0)
    assert runner.session_from(json.loads(json.dumps(asdict(session)))) == session
