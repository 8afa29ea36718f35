"""What run.toml says by its version: older ones are read as they were meant.

按版本读取 run.toml：旧版本按其原意理解。
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from hanformer.errors import UserError
from hanformer.records import NONE, plain
from hanformer.train.sizes import DROPOUTS, ShapedRecipe, Sizes

RUN_VERSION = 4
READABLE_VERSIONS = (1, 2, 3, 4)
#: These wrote softmax also where no attention had been named, and ignored sizes beside a pretrained model.
_IGNORING = (1, 2)
#: These also wrote the usual sizes beside a pretrained model where none had been said.
_FILLING = (*_IGNORING, 3)

Recipe = TypeVar("Recipe")


def check_version(path: Path, values: Mapping[str, Any]) -> None:
    """Raises UserError for a run.toml of a version that is not known. 检查 run.toml 的版本。"""
    if values.get("version") not in READABLE_VERSIONS:
        raise UserError(
            f"{path}: expected a run of version {' or '.join(map(str, READABLE_VERSIONS))}, "
            f"got {values.get('version')}; use the version of Hanformer that wrote it, or train again"
        )


def in_our_words(values: dict[str, Any]) -> dict[str, Any]:
    """A run.toml in which softmax that nobody named is unsaid, and sizes that were ignored are.

    旧版本中未指定的 softmax 与被忽略的尺寸视为未写明。
    """
    recipe = values.get("recipe")
    sizes = recipe.get("sizes") if isinstance(recipe, dict) else None
    if values.get("version") not in _IGNORING or not isinstance(sizes, dict):
        return values
    said = sizes.get("attention", {"name": "softmax"})
    attention = {"attention": NONE if said == {"name": "softmax"} else said}
    kept = {} if values["recipe"].get("start_from") else sizes
    return {**values, "recipe": {**values["recipe"], "sizes": {**kept, **attention}}}


def as_said(recipe: Recipe, version: object) -> Recipe:
    """The recipe of a run of that version with the sizes that had to be said: a new model's where they are not the
    usual ones, for all are written.

    运行所用配方中确实写明的尺寸；新模型的默认尺寸视为未写明。
    """
    if not isinstance(recipe, ShapedRecipe):
        return recipe
    if recipe.start_from and version not in _FILLING:
        return recipe
    sizes = recipe.sizes.unlike(recipe.usual_sizes)
    if recipe.start_from:
        # The others were the pretrained model's own, or it would not have been trained.
        sizes = replace(Sizes(**cast(Any, sizes.dropouts)), attention=recipe.sizes.attention)
    return replace(recipe, sizes=sizes)


def as_written_now(saved: Mapping[str, Any], recipe: object) -> Mapping[str, Any]:
    """What an older run.toml says of sizes, as this version writes it for this recipe: all of a new model, else those
    that are said.

    旧版 run.toml 的尺寸按现行写法表示。
    """
    sizes = saved.get("recipe", {}).get("sizes")
    known = saved.get("version") in _FILLING and isinstance(sizes, Mapping)
    if not known or not isinstance(recipe, ShapedRecipe):
        return saved
    usual, attention = plain(recipe.usual_sizes), sizes.get("attention", NONE)
    if recipe.start_from:
        # Of those that a pretrained model keeps nobody knows whether they were said.
        own = {name: sizes.get(name, usual[name]) for name in DROPOUTS}
        said = {name: NONE if value == usual[name] else value for name, value in own.items()}
        written = {**plain(recipe.sizes), **said, "attention": attention}
    else:
        written = {**usual, **sizes, "attention": usual["attention"] if attention == NONE else attention}
    return {**saved, "recipe": {**saved["recipe"], "sizes": written}}
