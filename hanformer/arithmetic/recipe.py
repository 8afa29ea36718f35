"""Recipes: all choices of a training run in one record, with the presets that were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hanformer.arithmetic.layouts import Noise
from hanformer.arithmetic.raw_layout import RawOptions
from hanformer.arithmetic.slot_layout import SlotOptions
from hanformer.errors import UserError
from hanformer.models.loading import skeleton
from hanformer.records import NONE, assign, full_name
from hanformer.train.optimizer import rule_named
from hanformer.train.options import TrainOptions, named_ends
from hanformer.train.runs import BEST, read_description
from hanformer.train.sizes import ShapedRecipe, Sizes
from hanformer.train.theseus import Theseus

#: Where a run with a pointer keeps it, beside its model.
POINTER_FILE = "pointer.safetensors"
#: What a run did before these choices were in its recipe.
_BEFORE = {"r_drop": 0.0, "limit": 0, "extra_generated": 0, "start_from": ""}
_NOISE_BEFORE = {"writings": 0.0}
#: Of a new model, and the least that any vocabulary has.
MOST_POSITIONS, _FEWEST_TOKENS = 1536, 8
#: Fields of these may be named without the group.
_GROUPS = ("sizes", "train", "slots", "raw", "noise")
_SIZES_BEFORE = {"attention": NONE}


@dataclass(frozen=True)
class Recipe(ShapedRecipe):
    """All choices of one run of the main job.

    主任务一次训练的全部选择。

    `start_from` names a pretrained model to fine-tune, in the raw layout (empty: from scratch, by `sizes`), whose
    mechanism of attention `sizes.attention` replaces;
    `layout` is slots or raw; `noise` varies problems; `optimizer` a rule of `train.optimizer`; `token_budget` the most
    tokens of a batch; `valid` the number of problems held out of training to choose by; `generated` the number
    of generated training problems (data = generated); `label_smoothing` a share of probability; `pointer` scores
    slots by what stands in the problem (layout slots; the raw layout has none); `r_drop` is the strength of
    R-Drop, 0 without; `limit` trains on the first so many problems, 0 on all; `extra_generated` adds so many
    generated problems to published ones.
    """

    layout: str = "slots"
    slots: SlotOptions = field(default_factory=SlotOptions)
    raw: RawOptions = field(default_factory=RawOptions)
    train: TrainOptions = field(default_factory=lambda: TrainOptions(epochs=40))
    noise: Noise = field(default_factory=Noise)
    optimizer: str = "muon"
    token_budget: int = 3072
    valid: int = 500
    generated: int = 20000
    label_smoothing: float = 0.0
    pointer: bool = True
    r_drop: float = 0.0
    limit: int = 0
    extra_generated: int = 0

    @property
    def theseus(self) -> Theseus:
        """No layers are replaced. 不替换任何层。"""
        return Theseus()

    @property
    def named_files(self) -> tuple[str, ...]:
        """None beside the data. 除数据外不依赖其他文件。"""
        return ()

    def __post_init__(self) -> None:
        if self.layout not in ("slots", "raw"):
            raise UserError(f"layout: expected slots or raw, got {self.layout!r}")
        if self.layout != "slots" and self.noise.writings:
            raise UserError(
                "noise.writings: only the layout slots writes targets anew; take --set layout=slots"
            )
        if self.start_from and self.layout != "raw":
            raise UserError("a pretrained model reads plain text: use --set layout=raw with --start-from")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing: expected a share from 0 up to 1, got {self.label_smoothing}")
        if not 0 <= self.r_drop < math.inf:
            raise UserError(f"r_drop: expected a strength of 0 or more, got {self.r_drop}")
        for name in ("token_budget", "valid", "generated"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.limit < 0:
            raise UserError(f"limit: expected a number of problems, or 0 for all, got {self.limit}")
        if self.extra_generated < 0:
            raise UserError(
                f"extra_generated: expected a number of problems, or 0, got {self.extra_generated}"
            )
        rule_named(self.optimizer)

    def check_shape(self) -> None:
        """Raises UserError where no new model has the shape that is asked for: told before data are read.

        检查新模型能否按所选尺寸与机制构建。
        """
        if not self.start_from:
            skeleton(self.shape.config(_FEWEST_TOKENS, "unilm", MOST_POSITIONS), ())

    def changed(self, assignments: Mapping[str, str]) -> Recipe:
        """A copy with fields set by dotted name, as `--set train.learning_rate=5e-4` gives them; what only one group
        has may be named without it: `learning_rate`, `attention`, `order`.

        按“名称=值”修改配方，名称与类型都会检查；只属于一个分组的名称可省略分组。

        Raises UserError for an unknown name or a value of another type.
        """
        named = named_ends(assignments)
        return assign(self, {full_name(self, name, _GROUPS): value for name, value in named.items()})


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


def description_of(folder: Path) -> dict[str, Any]:
    """The values of run.toml, with what older versions left unsaid.

    读取 run.toml；旧版本未写明的选项按当时的做法补上。

    Raises UserError where it is missing, broken or of another version.
    """
    values = read_description(folder)
    # A run with a pointer has its weights; that they are there says more than a line that is missing.
    pointer = (folder / BEST / POINTER_FILE).exists()
    recipe = {**_BEFORE, "pointer": pointer, **values["recipe"]}
    if isinstance(sizes := recipe.get("sizes"), dict):
        recipe["sizes"] = {**_SIZES_BEFORE, **sizes}
    if isinstance(noise := recipe.get("noise"), dict):
        recipe["noise"] = {**_NOISE_BEFORE, **noise}
    return {**values, "recipe": recipe}
