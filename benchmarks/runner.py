"""The runner: checks, measures under both allocator settings, prints one table and writes one JSON file.

The allocator setting cannot be taken back within a process, so each setting gets a fork of its own, in which all
sides run in turns. The parent computes nothing: it has started no threads that a fork would lose.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measure import Case, Result, Round, measure
from hanformer import runtime
from hanformer.errors import UserError
from hanformer.weights.atomic import write_text

ALLOCATORS = ("default", "tuned")
LEAST_ROUNDS = 5
COLUMNS = (
    "case",
    "side",
    "allocator",
    "rate: median (min to max)",
    "CPU s",
    "time / ours",
    "CPU / ours",
    "CPU / ours tuned",
)
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Session:
    """What one process measured, and where: the record that a child hands to its parent.

    一个进程的测量结果与环境。
    """

    allocator: str
    load_before: tuple[float, ...]
    load_after: tuple[float, ...]
    seconds: float
    machine: Mapping[str, Any]
    checks: Mapping[str, str]
    results: tuple[Result, ...]


Cases = Callable[[argparse.Namespace], Iterable[Case]]


def parser(description: str, name: str) -> argparse.ArgumentParser:
    """The options of every benchmark; a benchmark adds its own. 各基准共用的命令行选项。"""
    options = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    options.add_argument("--allocator", choices=("both", *ALLOCATORS), default="both")
    options.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="timed rounds of each side")
    options.add_argument("--threads", type=int, default=None, help="CPU threads; default: all usable cores")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("runs/benchmarks") / f"{name}.json")
    options.add_argument("--cases", default="", help="only the cases with this text in their name")
    return options


def main(name: str, options: argparse.ArgumentParser, cases: Cases, arguments: Sequence[str]) -> int:
    """Runs a benchmark from its command line; returns the exit code, 2 after a user's mistake.

    运行基准；出错时返回 2。
    """
    chosen = options.parse_args(arguments)
    wanted = ALLOCATORS if chosen.allocator == "both" else (chosen.allocator,)
    try:
        sessions = [run_forked(chosen, cases, allocator) for allocator in wanted]
        write_text(chosen.out, json.dumps(record(name, arguments, chosen.seed, sessions), indent=1) + "\n")
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    print(report(sessions))
    print(f"\nwritten to {chosen.out}")
    return 0


def run_session(chosen: argparse.Namespace, cases: Cases, allocator: str) -> Session:
    """Checks and measures all cases in this process, under one allocator setting.

    在当前进程中检查并测量全部案例。

    A case is checked before it is timed; a Difference stops the benchmark. Raises UserError where the tuned
    setting is asked for and the allocator does not take it.
    """
    if allocator == "tuned" and not runtime.tune_cpu():
        raise UserError("this allocator cannot be tuned (it is not glibc's); use --allocator default")
    runtime.set_threads(chosen.threads)
    start, load = time.perf_counter(), os.getloadavg()
    checks: dict[str, str] = {}
    results: list[Result] = []
    for case in (case for case in cases(chosen) if chosen.cases in case.name):
        checks[case.name] = case.check()
        results += measure(case, chosen.rounds, allocator)
        print(f"  {allocator:8}{case.name}: {checks[case.name]}", file=sys.stderr, flush=True)
    if not results:
        raise UserError(f"no case has {chosen.cases!r} in its name")
    seconds, machine = time.perf_counter() - start, asdict(runtime.describe_machine())
    return Session(allocator, load, os.getloadavg(), seconds, machine, checks, tuple(results))


def run_forked(chosen: argparse.Namespace, cases: Cases, allocator: str) -> Session:
    """`run_session` in a fork of this process. 在派生的子进程中运行。

    Raises UserError where it fails; its own message has been printed then.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.json"
        words = (chosen, cases, allocator, path)
        child = multiprocessing.get_context("fork").Process(target=_write_session, args=words, daemon=True)
        child.start()
        child.join()
        if child.exitcode:
            raise UserError(f"stopped under the {allocator} allocator; the reason stands above")
        return session_from(json.loads(path.read_text(encoding="utf-8")))


def _write_session(chosen: argparse.Namespace, cases: Cases, allocator: str, path: Path) -> None:
    try:
        write_text(path, json.dumps(asdict(run_session(chosen, cases, allocator))))
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def session_from(values: Mapping[str, Any]) -> Session:
    """The way back from JSON. 从 JSON 还原。"""
    results = []
    for entry in values["results"]:
        rounds = tuple(Round(**round_) for round_ in entry["rounds"])
        listed = {key: tuple(entry[key]) for key in ("rates", "time_ratios", "cpu_ratios")}
        results.append(Result(**{**entry, **listed, "rounds": rounds}))
    loads = {key: tuple(values[key]) for key in ("load_before", "load_after")}
    return Session(**{**values, **loads, "results": tuple(results)})


def record(name: str, arguments: Sequence[str], seed: int, sessions: Sequence[Session]) -> dict[str, Any]:
    """Everything that the JSON file says. JSON 文件的内容。"""
    return {
        "benchmark": name,
        "command": " ".join(["python -m", f"benchmarks.{name}", *arguments]),
        "commit": commit(),
        "seed": seed,
        "versions": {package: version(package) for package in ("torch", "transformers", "hanformer")},
        "sessions": [asdict(session) for session in sessions],
    }


def version(package: str) -> str:
    """The installed version of a package, or 'not installed'. 软件包版本。"""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit of this checkout, with '+' where files differ from it; 'unknown' outside git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    run = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)
    return run.stdout.strip()


def report(sessions: Sequence[Session]) -> str:
    """The Markdown table of all sessions, with the machine and its load. 汇总表。

    `time / ours` and `CPU / ours` are medians over rounds of a side's seconds by ours in the same round, under the
    same setting; on a busy machine CPU seconds are the steadier ones. The last column is CPU seconds by ours under
    the tuned setting; its two sides ran in different processes.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    results = [result for session in sessions for result in session.results]
    ours = {(result.case, result.allocator): result for result in reversed(results)}
    for case in dict.fromkeys(result.case for result in results):
        for result in (result for result in results if result.case == case):
            lines.append(_line(result, ours.get((case, "tuned"))))
    return "\n".join([*lines, "", *(_footnote(session) for session in sessions)])


def _line(result: Result, ours_tuned: Result | None) -> str:
    low, high = min(result.rates), max(result.rates)
    cells = [
        result.case,
        result.side,
        result.allocator,
        f"{_number(result.rate)} {result.rate_unit} ({_number(low)} to {_number(high)})",
        f"{result.cpu:.2f}",
        f"{result.time_ratio:.2f}",
        f"{result.cpu_ratio:.2f}",
        f"{result.cpu / ours_tuned.cpu:.2f}" if ours_tuned else "",
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _footnote(session: Session) -> str:
    before, after = session.load_before[0], session.load_after[0]
    return (
        f"{session.allocator} allocator: {session.machine['processor']}, {session.machine['threads']} threads, "
        f"torch {session.machine['torch']}; load {before:.1f} before, {after:.1f} after; {session.seconds:.0f} s"
    )
