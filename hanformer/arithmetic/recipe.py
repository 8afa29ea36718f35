"""Recipes: all choices of a training run in one record, with the presets that were measured."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import tomli_w

from hanformer.arithmetic.layouts import Noise
from hanformer.arithmetic.raw_layout import RawOptions
from hanformer.arithmetic.slot_layout import SlotOptions
from hanformer.errors import UserError
from hanformer.train.optimizer import rule_named
from hanformer.train.options import TrainOptions
from hanformer.weights.atomic import write_text

RUN_FILE = "run.toml"
RUN_VERSION = 2
READABLE_VERSIONS = (1, 2)
#: What a run did before these choices were in its recipe.
_BEFORE = {"pointer": False, "r_drop": 0.0}


@dataclass(frozen=True)
class Sizes:
    """The shape of the Transformer that is trained from scratch. 从头训练的模型尺寸。"""

    hidden_size: int = 192
    layers: int = 3
    attention_heads: int = 6
    intermediate_size: int = 768
    norm_place: str = "pre"
    position: str = "rotary"
    activation: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    initial_deviation: float = 0.05


@dataclass(frozen=True)
class Recipe:
    """All choices of one run of the main job.

    主任务一次训练的全部选择。

    `layout` is slots or raw; `noise` varies sources; `optimizer` a rule of `train.optimizer`; `token_budget` the most
    tokens of a batch; `valid` the number of problems held out of training to choose by; `generated` the number
    of generated training problems (data = generated); `label_smoothing` a share of probability; `pointer` scores
    slots by what stands in the problem (layout slots; the raw layout has none); `r_drop` is the strength of
    R-Drop, 0 without.
    """

    layout: str = "slots"
    slots: SlotOptions = field(default_factory=SlotOptions)
    raw: RawOptions = field(default_factory=RawOptions)
    sizes: Sizes = field(default_factory=Sizes)
    train: TrainOptions = field(default_factory=lambda: TrainOptions(epochs=40))
    noise: Noise = field(default_factory=Noise)
    optimizer: str = "muon"
    token_budget: int = 3072
    valid: int = 500
    generated: int = 20000
    label_smoothing: float = 0.0
    pointer: bool = True
    r_drop: float = 0.0

    def __post_init__(self) -> None:
        if self.layout not in ("slots", "raw"):
            raise UserError(f"layout: expected slots or raw, got {self.layout!r}")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing: expected a share from 0 up to 1, got {self.label_smoothing}")
        if not 0 <= self.r_drop < math.inf:
            raise UserError(f"r_drop: expected a strength of 0 or more, got {self.r_drop}")
        for name in ("token_budget", "valid", "generated"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, got {getattr(self, name)}")
        rule_named(self.optimizer)

    def changed(self, assignments: Mapping[str, str]) -> Recipe:
        """A copy with fields set by dotted name, as `--set train.learning_rate=5e-4` gives them.

        按“名称=值”修改配方，名称与类型都会检查。

        Raises UserError for an unknown name or a value of another type.
        """
        recipe = self
        for name, text in assignments.items():
            recipe = _assign(recipe, name, name.split("."), text)
        return recipe


def _assign(record: Any, name: str, path: list[str], text: str) -> Any:
    if not is_dataclass(record) or isinstance(record, type):
        raise UserError(
            f"--set {name}: {path[0]!r} stands inside a plain value; leave out the last part of the name"
        )
    known = {entry.name: str(entry.type) for entry in fields(record)}
    if path[0] not in known:
        raise UserError(f"--set {name}: unknown name {path[0]!r}; there are {', '.join(sorted(known))}")
    current = getattr(record, path[0])
    if len(path) > 1:
        return replace(record, **{path[0]: _assign(current, name, path[1:], text)})
    if is_dataclass(current):
        raise UserError(
            f"--set {name}: is a group; set one of {', '.join(e.name for e in fields(current))} in it"
        )
    return replace(record, **{path[0]: _read(name, text, current, known[path[0]])})


def _read(name: str, text: str, current: Any, kind: str) -> Any:
    """The text as a value of the field's kind, which is its annotation."""
    try:
        if text.lower() == "none" and "None" in kind:
            return None
        if kind.startswith("bool"):
            return {"true": True, "false": False}[text.lower()]
        if kind.startswith("tuple"):
            return _read_tuple(text.split(","), current, kind)
        if kind.startswith("str"):
            return text
        value = int(text) if kind.startswith("int") else float(text)
        if not math.isfinite(value):
            raise ValueError
        return value
    except (KeyError, ValueError, ZeroDivisionError):
        raise UserError(f"--set {name}: expected {kind} like {current!r}, got {text!r}") from None


def _read_tuple(parts: list[str], current: tuple[Any, ...], kind: str) -> tuple[Any, ...]:
    """Parts of one type; a tuple of fixed length keeps it."""
    if "..." not in kind and len(parts) != len(current):
        raise ValueError
    inner = next((read for word, read in _PART_READERS.items() if f"[{word}" in kind), None)
    if inner is None:
        raise ValueError
    return tuple(inner(part.strip()) for part in parts)


_PART_READERS: dict[str, Callable[[str], Any]] = {"Fraction": Fraction, "float": float, "str": str}


#: What both presets share: checkpoints are chosen by validation accuracy, weights are averaged.
_TRAIN = TrainOptions(
    epochs=40,
    learning_rate=2e-3,
    schedule="linear",
    warm_up=200,
    betas=(0.9, 0.98),
    weight_decay=0.01,
    average="ema",
    average_decay=0.998,
    best_by="accuracy",
    higher_is_better=True,
)
#: Two to three minutes of training on two CPU cores, for `make demo`.
DEMO = Recipe(
    token_budget=2048,
    sizes=Sizes(hidden_size=128, layers=3, attention_heads=4, intermediate_size=512),
    # On a slow machine the time ends training, and the rate decays in time for it.
    train=replace(_TRAIN, epochs=5, time_limit=200.0, warm_up=100, average_decay=0.99),
    generated=12000,
    valid=300,
)
#: The default of `hanformer train arithmetic`.
DEFAULT = Recipe(train=_TRAIN)
RECIPES = {"demo": DEMO, "default": DEFAULT}


@dataclass(frozen=True)
class RunDescription:
    """What run.toml says: the task, where the data came from, the recipe, and the machine.

    run.toml 的内容：任务、数据来源、配方与机器。
    """

    data: str
    recipe: Recipe
    task: str = "arithmetic"
    version: int = RUN_VERSION
    machine: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


def write_description(folder: Path, description: RunDescription) -> None:
    """Writes run.toml. 写入 run.toml。"""
    write_text(folder / RUN_FILE, tomli_w.dumps(plain(asdict(description))))


def read_description(folder: Path) -> dict[str, Any]:
    """The values of run.toml, with what older versions left unsaid.

    读取 run.toml；旧版本未写明的选项按当时的做法补上。

    Raises UserError where it is missing, broken or of another version.
    """
    path = folder / RUN_FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder}: not a run folder ({RUN_FILE} is missing); train one with `hanformer train`"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); the run folder is incomplete") from None
    if values.get("version") not in READABLE_VERSIONS:
        raise UserError(
            f"{path}: expected a run of version {' or '.join(map(str, READABLE_VERSIONS))}, "
            f"got {values.get('version')}; use the version of Hanformer that wrote it, or train again"
        )
    recipe = values.get("recipe", {})
    if not isinstance(recipe, dict):
        raise UserError(f"{path}: expected a table named recipe, got {recipe!r}; the run folder is broken")
    return {**values, "recipe": {**_BEFORE, **recipe}}


def plain(value: Any) -> Any:
    """Values that TOML can write: fractions as text, None left out. 转为 TOML 可写的值。"""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, (Fraction, Path)) else value
