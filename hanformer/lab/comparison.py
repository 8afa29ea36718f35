"""Comparisons of trainings: what a file of variants says, and the commands that it stands for."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hanformer.errors import UserError

#: How a figure is written: 0.8571 as 85.71 %, or as it is.
KINDS = ("percent", "number")
#: The name of the figures of the best checkpoint, where nothing else is evaluated.
VALIDATION = "validation"
#: What commands may hold in braces.
DATA, PREPARED = "{data}", "{prepared}"


#: What every file says.
_EXAMPLES = {
    "title": 'title = "Is FGM worth its time?"',
    "train": 'train = "classify --data {data}/reviews"',
    "figures": 'figures = { accuracy = "percent" }',
    "variants": 'variants = { plain = "", FGM = "--trick fgm" }',
    "curve": 'curve = "accuracy"',
}


@dataclass(frozen=True)
class Comparison:
    """One training with one choice changed at a time, over several seeds.

    对比实验：同一训练每次只改一处，重复多个随机种子。

    `train` is what follows `hanformer train`, `variants` what each adds to it, `evaluate` what follows `hanformer
    evaluate RUN` by name; without it the best validation of each run counts. `figures` says which figures are reported
    and whether as "percent" or "number", `curve` which validation metric is drawn. `prepare` are commands of hanformer
    that are run once, in their order, for all variants to start from. {data} stands for
    the folder that the user names, {prepared} for one that prepared things are written to.
    """

    title: str
    train: str
    figures: Mapping[str, str]
    variants: Mapping[str, str]
    curve: str
    evaluate: Mapping[str, str] = field(default_factory=dict)
    chinese: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    prepare: Mapping[str, str] = field(default_factory=dict)

    @property
    def tests(self) -> tuple[str, ...]:
        """The names of what every run is judged on. 各项评测的名称。"""
        return tuple(self.evaluate) or (VALIDATION,)


def read_comparison(path: str | Path) -> Comparison:
    """The comparison that a TOML file describes.

    读取对比实验文件。

    Raises UserError for a file that cannot be read, a name that is unknown or missing, and a value of another kind.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; expected a comparison (TOML)") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML ({error})") from None
    known = Comparison.__dataclass_fields__
    if unknown := sorted(set(values) - set(known)):
        raise UserError(f"{path}: unknown name {unknown[0]!r}; expected {', '.join(known)}")
    if missing := [name for name in _EXAMPLES if name not in values]:
        raise UserError(f"{path}: {missing[0]} is missing; for example {_EXAMPLES[missing[0]]}")
    for name, value in values.items():
        _check(f"{path}: {name}", name, value)
    return Comparison(**{**values, "seeds": tuple(values.get("seeds", (0, 1, 2)))})


_TABLES = ("evaluate", "figures", "variants", "prepare")


def _check(where: str, name: str, value: Any) -> None:
    if name == "seeds":
        if not (isinstance(value, list) and value and all(type(seed) is int for seed in value)):
            raise UserError(f"{where}: expected a list of whole numbers such as [0, 1, 2], got {value!r}")
    elif name in _TABLES:
        if not (isinstance(value, dict) and value and all(isinstance(text, str) for text in value.values())):
            raise UserError(f"{where}: expected a table of names and texts, got {value!r}")
        if name == "figures" and (wrong := sorted(set(value.values()) - set(KINDS))):
            raise UserError(f"{where}: expected {' or '.join(KINDS)}, got {wrong[0]!r}")
    elif not isinstance(value, str):
        raise UserError(f"{where}: expected a text, got {value!r}")
    for text in value.values() if isinstance(value, dict) else [value]:
        _split(where, text)


def _split(where: str, text: Any) -> list[str]:
    try:
        return shlex.split(text) if isinstance(text, str) else []
    except ValueError as error:
        raise UserError(f"{where}: {text!r} is no command line ({error})") from None


@dataclass(frozen=True)
class Places:
    """Where a comparison reads and writes: the data of {data} (none where the file names no data), and its own folder.

    对比实验读写的位置。
    """

    out: Path
    data: Path | None = None

    def run(self, variant: str, seed: int) -> Path:
        """The run folder of a variant and a seed. 某一变体与种子的运行目录。"""
        return self.out / slug(variant) / f"seed-{seed}"

    @property
    def prepared(self) -> Path:
        """The folder of what is prepared. 预备步骤的输出目录。"""
        return self.out / "prepared"

    def filled(self, text: str) -> list[str]:
        """A command line with what its braces stand for, split into words.

        代入路径并切分命令行。

        Raises UserError where it reads {data} and no folder was named.
        """
        if DATA in text and self.data is None:
            raise UserError(f"the comparison reads {DATA}: name the folder with --data")
        places = {DATA: str(self.data), PREPARED: str(self.prepared)}
        words = shlex.split(text)
        for mark, place in places.items():
            words = [word.replace(mark, place) for word in words]
        return words


def slug(name: str) -> str:
    """A name as that of a folder: letters and digits of any script, the rest as hyphens. 用作文件夹名。"""
    return re.sub(r"\W+", "-", name).strip("-").lower() or "unnamed"


def train_command(comparison: Comparison, places: Places, variant: str, seed: int) -> list[str]:
    """The words of the command that trains a variant with a seed, without the program's name. 训练命令。"""
    words = [*places.filled(comparison.train), *places.filled(comparison.variants[variant])]
    return ["train", *words, "--set", f"train.seed={seed}", "--out", str(places.run(variant, seed))]


def evaluate_command(comparison: Comparison, places: Places, run: Path, name: str) -> list[str]:
    """The words of the command that judges a run, without the program's name. 评测命令。"""
    return ["evaluate", str(run), *places.filled(comparison.evaluate[name]), "--json"]
