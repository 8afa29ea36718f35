"""Runs go on with the choices that they were started with; choices that came later count as off before."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.train.runs import RunDescription, check_folder


@dataclass(frozen=True)
class Stop:
    kind: str = "none"
    epsilon: float = 0.1


@dataclass(frozen=True)
class Recipe:
    width: int = 8
    limit: int = 0
    shared: bool = False
    file: str = ""
    stop: Stop = field(default_factory=Stop)


def saved(**recipe: object) -> dict[str, object]:
    return {"task": "t", "data": "d", "recipe": {"width": 8, **recipe}}


def check(folder: Path, before: dict[str, object], recipe: Recipe) -> None:
    check_folder(folder, before, RunDescription("t", "d", recipe), resume=True)


def test_choices_that_did_not_exist_were_off(tmp_path: Path) -> None:
    check(tmp_path, saved(), Recipe())
    check(tmp_path, saved(limit=0, stop={"kind": "none", "epsilon": 0.1}), Recipe())


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (Recipe(width=9), "recipe.width 8 there, 9 now"),
        (Recipe(limit=5), "recipe.limit None there, 5 now"),
        (Recipe(shared=True), "recipe.shared None there, True now"),
        (Recipe(stop=Stop("monotonic")), "recipe.stop None there"),
    ],
)
def test_what_changes_the_weights_is_refused(tmp_path: Path, recipe: Recipe, name: str) -> None:
    with pytest.raises(UserError, match=name):
        check(tmp_path, saved(), recipe)
