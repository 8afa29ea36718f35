"""Run folders: what run.toml says, and how a run is found, continued and opened again."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from hanformer.errors import UserError
from hanformer.records import NONE, plain, read_record
from hanformer.train.history import HISTORY_FILE
from hanformer.train.options import FREE_ON_RESUME
from hanformer.train.run_versions import RUN_VERSION, as_said, as_written_now, check_version, in_our_words
from hanformer.train.sizes import settled
from hanformer.weights.atomic import recover_folder, write_text

RUN_FILE = "run.toml"
BEST, LAST = "best", "last"

Recipe = TypeVar("Recipe")


@dataclass(frozen=True)
class RunDescription:
    """What run.toml says: the task, where the data came from, the recipe (a record), the machine, and fingerprints of
    the data's files.

    run.toml 的内容：任务、数据来源、配方与机器。
    """

    task: str
    data: str
    recipe: Any
    version: int = RUN_VERSION
    machine: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def write_description(folder: Path, description: RunDescription) -> None:
    """Writes run.toml, with the usual sizes of a new model where none are said. 写入 run.toml（含默认尺寸）。"""
    whole = replace(description, recipe=settled(description.recipe))
    write_text(folder / RUN_FILE, tomli_w.dumps(plain(whole)))


def read_description(folder: Path) -> dict[str, Any]:
    """The values of run.toml.

    读取 run.toml。

    Raises UserError where it is missing, broken or of another version.
    """
    path = folder / RUN_FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder}: not a run folder ({RUN_FILE} is missing); train one with `hanformer train`"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); the run folder is incomplete") from None
    check_version(path, values)
    if not isinstance(values.get("recipe"), dict):
        raise UserError(
            f"{path}: expected a table named recipe, got {values.get('recipe')!r}; the run folder is broken: "
            "take the file from a copy, or train again"
        )
    return in_our_words(values)


def recipe_of(default: Recipe, values: Mapping[str, Any], place: Path) -> Recipe:
    """The recipe that run.toml says: what it leaves out is as in `default`. run.toml 中的配方。

    Raises UserError, which names the `place`, for unknown names and values of another type.
    """
    try:
        return as_said(read_record(default, values["recipe"]), values.get("version"))
    except UserError as error:
        of_run = f"; this is a run of {values['task']}" if "task" in values else ""
        raise UserError(f"{place}: {error}{of_run}") from None


def read_recipe(default: Recipe, path: str | Path) -> Recipe:
    """A recipe file (TOML), or the run.toml of an earlier run: what it leaves out is as in `default`.

    读取 TOML 配方文件或以往训练的 run.toml。

    Raises UserError for a file that is missing, broken, of another task, or has unknown names.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a recipe ({error}); expected a TOML file") from None
    path = Path(path)
    if "recipe" not in values:
        return _written_recipe(default, values, path)
    if not isinstance(values["recipe"], Mapping):
        raise UserError(f"{path}: expected a table named recipe, got {values['recipe']!r}")
    if "version" in values:
        check_version(path, values)
    if beside := sorted(values.keys() - {entry.name for entry in fields(RunDescription)}):
        raise UserError(
            f"{path}: {beside[0]} stands outside the table recipe and would be ignored; put it there"
        )
    if "version" not in values:
        return _written_recipe(default, values["recipe"], path)
    return recipe_of(default, in_our_words(values), path)


def _written_recipe(default: Recipe, table: Mapping[str, Any], path: Path) -> Recipe:
    """A recipe that somebody wrote: it means what it says, usual or not."""
    try:
        return read_record(default, table)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def check_folder(
    folder: Path, saved: Mapping[str, Any] | None, description: RunDescription, resume: bool
) -> None:
    """Refuses to write over a run, and to go on with one by another task, recipe or data.

    拒绝覆盖已有训练，也拒绝以不同的任务、配方或数据续训。

    `saved` is what run.toml says where the run goes on. Raises UserError.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder for the run, this is a file; choose another place")
    if not resume:
        if (folder / RUN_FILE).exists() or (folder / BEST).exists():
            raise UserError(f"{folder} already holds a run: resume it (--resume), or choose another folder")
        return
    recipe = settled(description.recipe)
    wanted = {"task": description.task, "data": description.data, "recipe": plain(recipe)}
    found = _differences("", as_written_now(saved or {}, recipe), wanted)
    # Choices come before the details of groups.
    differing = sorted(found, key=lambda line: line.split()[0].count("."))
    if differing:
        raise UserError(
            f"{folder}: the run was started with other choices ({'; '.join(differing[:3])}); "
            "resume with the same, or start in another folder"
        )
    for name in (BEST, LAST):
        recover_folder(folder / name)
    if (folder / BEST).exists() and not (folder / LAST).exists():
        raise UserError(
            f"{folder}: holds a best checkpoint, but no state to go on from ({LAST}/ is missing): going on would begin "
            "anew and write over it; train in another folder, or remove this one"
        )


#: What every model of a run has, whatever the task.
_OF_A_MODEL = ("config.json", "model.safetensors")
# The trainer itself checks the micro-batches of an update, over all workers.
_FREE = {f"recipe.train.{name}" for name in FREE_ON_RESUME | {"accumulate"}}


#: What a group of choices says that is off.
_OFF = {"kind": NONE, "layers": 0}


def _differences(name: str, saved: object, wanted: object) -> list[str]:
    """Choices that differ, but for those that may differ when a run goes on."""
    if isinstance(wanted, Mapping) and isinstance(saved, Mapping):
        keys = [key for key in {**wanted, **saved} if f"{name}{key}" not in _FREE]
        known = keys if name else list(wanted)
        return [
            line for key in known for line in _differences(f"{name}{key}.", saved.get(key), wanted.get(key))
        ]
    # Older versions had no such choice: it was off.
    off = isinstance(wanted, Mapping) and any(wanted.get(key) == value for key, value in _OFF.items())
    unsaid = saved is None and (off or wanted in (NONE, False, 0, ""))
    if saved == wanted or unsaid:
        return []
    if saved is None and isinstance(wanted, Mapping):
        return [f"{name.rstrip('.')} is missing there"]
    return [f"{name.rstrip('.')} {saved} there, {wanted} now"]


def run_of(path: str | Path) -> Path:
    """The run folder, also where its best/ was named. 运行目录（也可给出其 best/）。"""
    folder = Path(path)
    is_best = folder.name == BEST and not (folder / RUN_FILE).exists()
    return folder.parent if is_best and (folder.parent / RUN_FILE).exists() else folder


def open_run(path: str | Path, task: str) -> tuple[Path, dict[str, Any]]:
    """The best checkpoint of a run of this task, and what its run.toml says.

    打开某一任务的运行目录：返回最佳检查点与 run.toml 的内容。

    Raises UserError for a folder that is no run, is of another task, has no checkpoint yet, or lost files of it.
    """
    folder = run_of(path)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such run folder; train one with `hanformer train {task} --out {folder}`"
        )
    description = read_description(folder)
    if description.get("task") != task:
        raise UserError(f"{folder}: this run is of the task {description.get('task')!r}, not {task}")
    recover_folder(folder / BEST)
    if not (folder / BEST).is_dir():
        raise UserError(
            f"{folder}: there is no best checkpoint yet; let the training reach its first validation"
        )
    if missing := [name for name in _OF_A_MODEL if not (folder / BEST / name).is_file()]:
        raise UserError(
            f"{folder / BEST}: {' and '.join(missing)} missing; put back a copy of the run folder, or train again"
        )
    return folder / BEST, description


def task_of(path: str | Path) -> str:
    """The task of a run; raises UserError for a folder that is no run. 运行目录的任务名。"""
    folder = run_of(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; train one with `hanformer train`")
    return str(read_description(folder).get("task"))


def remove_run(folder: Path, companions: tuple[str, ...] = ()) -> None:
    """Removes what a run wrote into a folder, and nothing else that lies there. 只删除训练写入的内容。"""
    for name in (BEST, LAST):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (RUN_FILE, HISTORY_FILE, *companions):
        (folder / name).unlink(missing_ok=True)
