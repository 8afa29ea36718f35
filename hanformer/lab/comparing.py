"""Comparisons at work: every variant and seed is trained and judged by the commands that a user would type.

运行对比实验：每个变体、每个种子都用与用户相同的命令训练与评测。

A process of its own for each keeps runs apart: what one leaves in memory or in a thread setting changes nothing for the
next. What is done stays done: a comparison that was cut goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hanformer.errors import UserError
from hanformer.lab.comparison import VALIDATION, Comparison, Places, evaluate_command, slug, train_command
from hanformer.lab.report import check_report
from hanformer.runtime import describe_machine
from hanformer.train.history import HISTORY_FILE, History
from hanformer.train.runs import BEST, RUN_FILE
from hanformer.weights.atomic import write_text

RESULT_FILE = "result.json"

#: Runs a command of hanformer, given its words; returns what it prints where that is asked for.
Runner = Callable[[Sequence[str], bool], str]


@dataclass(frozen=True)
class Result:
    """What one training gave: figures by the name of the evaluation, the seconds that it trained, and what the file
    asked for then.

    一次训练的结果：各评测的指标、训练用时，以及当时文件中的命令。
    """

    variant: str
    seed: int
    figures: Mapping[str, Mapping[str, float]]
    seconds: float
    machine: Mapping[str, object]
    asked: Mapping[str, Any]


def run_command(words: Sequence[str], capture: bool) -> str:
    """A command of hanformer in a process of its own.

    在独立进程中执行 hanformer 命令。

    Raises UserError where it fails; its own words stand on standard error.
    """
    command = [sys.executable, "-m", "hanformer", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE if capture else None, text=True, check=False)
    if done.returncode:
        raise UserError(
            f"`hanformer {' '.join(words)}` ended with code {done.returncode}; what is done is kept, and the same "
            "command goes on with the rest"
        )
    return done.stdout or ""


def run_comparison(
    comparison: Comparison,
    places: Places,
    variants: Sequence[str] = (),
    *,
    extra: Sequence[str] = (),
    run: Runner = run_command,
    check: Callable[[Sequence[str]], None] = lambda words: None,
    said: Callable[[str], None] = print,
) -> list[Result]:
    """Trains and judges what is not done yet, seed by seed, and returns all results of these variants.

    运行尚未完成的训练与评测，返回这些变体的全部结果。

    A run that was trained before the file got one more evaluation is only judged by that.
    `extra` words (threads, device) follow every command. `check` raises UserError for the words of a command that will
    be refused; nothing is trained before all are checked (once more after what is prepared), and before it is known
    that a report can be drawn and written. Every seed goes through all variants before the next, so that a comparison
    that is cut has whole seeds. Raises UserError for an unknown variant and a command that fails.
    """
    check_variants(comparison, variants)
    chosen = list(variants) or list(comparison.variants)
    commands = list(_commands(comparison, places, chosen, extra))
    _check_all(commands, check)
    check_report(places.out)
    for name in comparison.prepare:
        _prepare(comparison, places, name, extra, run, said)
    if comparison.prepare:  # what starts from something prepared could not be checked before
        _check_all(commands, check)
    for seed in comparison.seeds:
        for variant in chosen:
            _fill(comparison, places, variant, seed, extra, run, said)
    return read_results(comparison, places, chosen)


def _check_all(commands: Sequence[tuple[str, list[str]]], check: Callable[[Sequence[str]], None]) -> None:
    for name, words in commands:
        try:
            check(words)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None


def check_variants(comparison: Comparison, variants: Sequence[str]) -> None:
    """Raises UserError for a variant that the file has not, and for two that would share a folder. 检查变体名称。"""
    if unknown := [name for name in variants if name not in comparison.variants]:
        raise UserError(f"unknown variant {unknown[0]!r}; there are {', '.join(comparison.variants)}")
    if len(set(map(slug, comparison.variants))) < len(comparison.variants):
        raise UserError("two variants would share a folder; give them names that differ in letters or digits")


def _commands(
    comparison: Comparison, places: Places, variants: Sequence[str], extra: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """The commands that prepare, and those of one seed that train and judge, with what they are for."""
    for name in comparison.prepare:
        yield f"prepare {name}", _preparing(comparison, places, name, extra)
    for variant in variants:
        yield variant, [*train_command(comparison, places, variant, comparison.seeds[0]), *extra]
    run = places.run(variants[0], comparison.seeds[0])
    for name in comparison.evaluate:
        yield f"evaluate {name}", [*evaluate_command(comparison, places, run, name), *extra]


def _preparing(comparison: Comparison, places: Places, name: str, extra: Sequence[str]) -> list[str]:
    """The words of a command that prepares; what trains is told of threads and device too."""
    words = places.filled(comparison.prepare[name])
    return [*words, *extra] if words[:1] == ["train"] else words


def _prepare(
    comparison: Comparison,
    places: Places,
    name: str,
    extra: Sequence[str],
    run: Runner,
    said: Callable[[str], None],
) -> None:
    done = places.prepared / f"{slug(name)}.done"
    if done.exists():
        return
    said(f"{name}: prepared once for all variants")
    words = _preparing(comparison, places, name, extra)
    if words[:1] == ["train"]:
        words += _going_on(Path(words[words.index("--out") + 1]))
    run(words, False)
    write_text(done, "")


def _fill(
    comparison: Comparison,
    places: Places,
    variant: str,
    seed: int,
    extra: Sequence[str],
    run: Runner,
    said: Callable[[str], None],
) -> None:
    folder = places.run(variant, seed)
    found = _read(comparison, folder, variant)
    if found is not None and _judged(comparison, found):
        return
    said(f"{variant}, seed {seed}")
    if found is None:
        run([*train_command(comparison, places, variant, seed), *extra, *_going_on(folder)], False)
    known = {} if found is None else found.figures
    figures = {
        name: known.get(name)
        or json.loads(run([*evaluate_command(comparison, places, folder, name), *extra], True))
        for name in comparison.evaluate
    } or {VALIDATION: _best(folder)}
    seconds = History.read(folder / HISTORY_FILE).records[-1].seconds
    machine = asdict(describe_machine()) if found is None else found.machine  # the one that trained
    result = Result(variant, seed, figures, seconds, machine, _asked(comparison, variant))
    write_text(folder / RESULT_FILE, json.dumps(asdict(result), ensure_ascii=False, indent=1))


def _judged(comparison: Comparison, found: Result) -> bool:
    """Whether all that the file evaluates is there: it may have got one more since."""
    return found.figures.keys() >= set(comparison.tests)


def _best(run: Path) -> dict[str, float]:
    """The validation figures of the checkpoint that was kept."""
    found: dict[str, float] = json.loads((run / BEST / "metrics.json").read_text(encoding="utf-8"))
    return found


def _going_on(folder: Path) -> list[str]:
    # Also where it was cut before its first checkpoint: then it begins anew.
    return ["--resume"] if (folder / RUN_FILE).exists() else []


def read_results(comparison: Comparison, places: Places, variants: Sequence[str] = ()) -> list[Result]:
    """The results that lie in the folder, by variant and seed.

    读取已有结果。

    Raises UserError for a result that cannot be read, or that another version of the file asked for.
    """
    found = [
        _read(comparison, places.run(variant, seed), variant)
        for variant in variants or comparison.variants
        for seed in comparison.seeds
    ]
    return [result for result in found if result is not None and _judged(comparison, result)]


def _read(comparison: Comparison, folder: Path, variant: str) -> Result | None:
    """The result of a run, if it is done."""
    path = folder / RESULT_FILE
    if not path.exists():
        return None
    try:
        found = Result(**json.loads(path.read_text(encoding="utf-8")))
        other = _differs(found.asked, _asked(comparison, variant))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: cannot be read as a result ({error}); remove it to judge that run again"
        ) from None
    if other:
        raise UserError(
            f"{folder}: was trained or judged by other commands than the file has now; remove the folder, or choose "
            "another place (--out): results of two recipes do not mix"
        )
    return found


def _differs(done: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a training, or an evaluation that both know, was asked for in other words."""
    shared = done["evaluate"].keys() & asked["evaluate"].keys()
    return done["train"] != asked["train"] or any(
        done["evaluate"][name] != asked["evaluate"][name] for name in shared
    )


def _asked(comparison: Comparison, variant: str) -> dict[str, Any]:
    """What decides a result, as the file says it, whatever its line breaks."""
    evaluations = {name: " ".join(text.split()) for name, text in comparison.evaluate.items()}
    train = " ".join([*comparison.train.split(), *comparison.variants[variant].split()])
    return {"train": train, "evaluate": evaluations}
