"""BERT-of-Theseus as a training: fewer layers, the same head, and the same weights however often it was cut."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from torch import Tensor

import hanformer
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.tasks.classify import ClassifyRecipe, train
from hanformer.tasks.classify.labels import ClassNames
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.train.history import Record
from hanformer.train.progress import LineReporter, SilentReporter
from hanformer.train.running import REPLACING
from hanformer.train.runs import RUN_FILE, read_description
from hanformer.train.sizes import Sizes
from hanformer.train.theseus import Theseus
from tests.tasks.classify.toy import ONE, RECIPE, one_label, write_rows

DEEP = replace(RECIPE, sizes=replace(RECIPE.sizes, layers=4))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained classifier of four layers."""
    run = tmp_path_factory.mktemp("deep") / "run"
    train(DEEP, ONE, run)
    return run


def shallow(deep: Path, **changes: Any) -> ClassifyRecipe:
    """Half as many layers, by updates enough to see both stages."""
    short = replace(RECIPE.train, updates=12, validate_every=4, checkpoint_every=3, log_every=1)
    return replace(DEEP, start_from=str(deep), theseus=Theseus(2), train=short, **changes)


def test_a_run_of_fewer_layers_that_still_knows(deep: Path, tmp_path: Path) -> None:
    told = io.StringIO()
    recipe = replace(shallow(deep), train=RECIPE.train)
    train(recipe, ONE, tmp_path / "run", reporter=LineReporter(told))
    notes = [line for line in told.getvalue().splitlines() if line.startswith("theseus: ")]
    assert len(notes) == 2 and "2 new layers learn" in notes[0] and "go on alone" in notes[1]
    model = hanformer.load(tmp_path / "run")
    assert isinstance(model, Transformer) and model.config.layers == len(model.stack.blocks) == 2
    service = open_service(tmp_path / "run", ServingOptions(precision="fp32"))
    found = service.evaluate(str(write_rows(tmp_path / "test.tsv", one_label(40, 5))))
    assert found.figures["accuracy"] > 0.9
    assert not (tmp_path / "run" / REPLACING).exists()
    assert read_description(tmp_path / "run")["recipe"]["theseus"]["layers"] == 2


class Cut(SilentReporter):
    """Breaks off at the nth of all updates that are told, as a crash would."""

    def __init__(self, at: int) -> None:
        self.left = at

    def trained(self, record: Record, fraction: float) -> None:
        self.left -= 1
        if not self.left:
            raise RuntimeError("cut")


def weights(run: Path) -> Tensor:
    return torch.cat([p.flatten() for p in hanformer.load(run).parameters()])


@pytest.mark.parametrize("at", [7, 20])
def test_cut_in_either_stage_it_ends_with_the_same_weights(deep: Path, tmp_path: Path, at: int) -> None:
    recipe = shallow(deep, tricks=("fgm",))
    train(recipe, ONE, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="cut"):
        train(recipe, ONE, tmp_path / "cut", reporter=Cut(at))
    train(recipe, ONE, tmp_path / "cut", resume=True)
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert not (tmp_path / "cut" / REPLACING).exists()


def test_a_head_is_taken_over_where_its_classes_are_the_same(deep: Path, tmp_path: Path) -> None:
    plain = replace(DEEP, start_from=str(deep / "best"), train=replace(RECIPE.train, updates=1))
    first = train(plain, ONE, tmp_path / "same").validations[0].metrics["micro_f1"]
    others = replace(ONE, names=ClassNames(tuple(reversed(ONE.names.names))))
    anew = train(plain, others, tmp_path / "other").validations[0].metrics["micro_f1"]
    assert first > 0.9 > 0.8 > anew


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (lambda run: replace(shallow(run), theseus=Theseus(3)), "a number of layers that divides 4, got 3"),
        (lambda run: shallow(run, freeze=1), "leave out freeze"),
        (
            lambda run: replace(shallow(run), start_from="tiny", sizes=Sizes()),
            "expected such a run, with the same labels",
        ),
        (lambda run: replace(shallow(run), start_from=""), "name a run of this task"),
        (
            lambda run: replace(shallow(run), train=replace(RECIPE.train, shard=True)),
            "cannot be replaced with",
        ),
        (lambda run: replace(shallow(run), theseus=Theseus(-1)), "theseus.layers: expected a number"),
    ],
)
def test_what_cannot_be_replaced(
    deep: Path, tmp_path: Path, recipe: Callable[[Path], ClassifyRecipe], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        train(recipe(deep), ONE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_from_before_there_was_this_choice_goes_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    recipe = replace(RECIPE, train=replace(RECIPE.train, updates=2))
    train(recipe, ONE, first)
    recipe = replace(recipe, start_from=str(first))
    train(recipe, ONE, second)
    values = read_description(second)
    del values["recipe"]["theseus"]
    (second / RUN_FILE).write_text(tomli_w.dumps(values), encoding="utf-8")
    train(replace(recipe, train=replace(RECIPE.train, updates=3)), ONE, second, resume=True)
    with pytest.raises(UserError, match=r"recipe\.theseus\.layers 0 there, 2 now"):
        train(replace(recipe, theseus=Theseus(layers=2)), ONE, second, resume=True)
