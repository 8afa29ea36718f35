"""Runs go on with the choices that they were started with; choices that came later count as off before."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import tomli_w

from hanformer.errors import UserError
from hanformer.mechanisms import Local, Softmax
from hanformer.tasks.text_recipe import TextRecipe
from hanformer.train.runs import (
    RunDescription,
    check_folder,
    read_description,
    read_recipe,
    write_description,
)
from hanformer.train.sizes import USUAL, Sizes


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
        (Recipe(stop=Stop("monotonic")), "recipe.stop is missing there"),
    ],
)
def test_what_changes_the_weights_is_refused(tmp_path: Path, recipe: Recipe, name: str) -> None:
    with pytest.raises(UserError, match=name):
        check(tmp_path, saved(), recipe)


@pytest.mark.parametrize(("version", "read"), [(1, None), (2, None), (3, Softmax())])
def test_softmax_that_an_older_version_wrote_was_not_asked_for(
    tmp_path: Path, version: int, read: Softmax | None
) -> None:
    """Softmax stood there whatever mechanism the pretrained model had: such a run goes on with that."""
    recipe = TextRecipe(start_from="tiny", sizes=Sizes(attention=Softmax()))
    write_description(tmp_path, RunDescription("t", "d", recipe, version=version))
    found = read_recipe(TextRecipe(), tmp_path / "run.toml")
    assert found == TextRecipe(start_from="tiny", sizes=Sizes(attention=read))
    check_folder(tmp_path, read_description(tmp_path), RunDescription("t", "d", found), resume=True)


def test_sizes_that_an_older_version_ignored_are_unsaid(tmp_path: Path) -> None:
    """A run that began with them beside a pretrained model goes on as it began: without them."""
    recipe = TextRecipe(start_from="tiny", sizes=Sizes(layers=9, dropout=0.4))
    write_description(tmp_path, RunDescription("t", "d", recipe, version=2))
    found = read_recipe(TextRecipe(), tmp_path / "run.toml")
    assert found == TextRecipe(start_from="tiny")
    check_folder(tmp_path, read_description(tmp_path), RunDescription("t", "d", found), resume=True)
    with pytest.raises(UserError, match="layers"):
        other = TextRecipe(sizes=Sizes(layers=9))
        write_description(tmp_path, RunDescription("t", "d", other, version=2))
        check_folder(
            tmp_path, read_description(tmp_path), RunDescription("t", "d", TextRecipe()), resume=True
        )


def test_a_run_says_all_sizes_of_a_new_model_and_reads_them_as_far_as_they_are_not_usual(
    tmp_path: Path,
) -> None:
    recipe = TextRecipe(sizes=Sizes(layers=9, dropout=USUAL.dropout))
    write_description(tmp_path, RunDescription("t", "d", recipe))
    values = read_description(tmp_path)
    written = values["recipe"]["sizes"]
    assert (written["layers"], written["hidden_size"]) == (9, USUAL.hidden_size)
    found = read_recipe(TextRecipe(), tmp_path / "run.toml")
    assert found == TextRecipe(sizes=Sizes(layers=9))
    check_folder(tmp_path, values, RunDescription("t", "d", found), resume=True)
    check_folder(tmp_path, values, RunDescription("t", "d", recipe), resume=True)
    with pytest.raises(UserError, match=r"sizes\.layers 9 there, 3 now"):
        check_folder(tmp_path, values, RunDescription("t", "d", TextRecipe()), resume=True)


def test_what_is_said_beside_a_pretrained_model_is_written_and_no_more(tmp_path: Path) -> None:
    recipe = TextRecipe(start_from="tiny", sizes=Sizes(dropout=USUAL.dropout))
    write_description(tmp_path, RunDescription("t", "d", recipe))
    assert read_recipe(TextRecipe(), tmp_path / "run.toml") == recipe
    with pytest.raises(UserError, match=r"sizes\.dropout 0.1 there, none now"):
        other = TextRecipe(start_from="tiny")
        check_folder(tmp_path, read_description(tmp_path), RunDescription("t", "d", other), resume=True)


def test_usual_sizes_that_an_older_version_wrote_beside_a_pretrained_model_are_unsaid(tmp_path: Path) -> None:
    filled = TextRecipe(
        start_from="tiny", sizes=replace(Sizes(dropout=0.4, layers=9).over(USUAL), attention=None)
    )
    write_description(tmp_path, RunDescription("t", "d", filled, version=3))
    found = read_recipe(TextRecipe(), tmp_path / "run.toml")
    assert found == TextRecipe(start_from="tiny", sizes=Sizes(dropout=0.4))
    # Whether sizes had been said is not known; other ones than the model's own cannot go on anyway.
    named = TextRecipe(start_from="tiny", sizes=Sizes(dropout=0.4, layers=4, hidden_size=USUAL.hidden_size))
    for recipe in (found, named):
        check_folder(tmp_path, read_description(tmp_path), RunDescription("t", "d", recipe), resume=True)
    for changed in (
        Sizes(),
        Sizes(dropout=0.4, attention_dropout=0.2),
        Sizes(dropout=0.4, attention=Local(3)),
    ):
        with pytest.raises(UserError, match=r"sizes\.(dropout|attention)"):
            other = TextRecipe(start_from="tiny", sizes=changed)
            check_folder(tmp_path, read_description(tmp_path), RunDescription("t", "d", other), resume=True)


def test_no_positions_are_a_choice_and_not_unsaid(tmp_path: Path) -> None:
    for start in ("", "tiny"):
        recipe = TextRecipe(start_from=start).changed({"position": "none"})
        write_description(tmp_path, RunDescription("t", "d", recipe))
        assert read_recipe(TextRecipe(), tmp_path / "run.toml") == recipe
        assert recipe.sizes.said == {"position": "none"}


def test_sizes_of_a_recipe_file_are_said(tmp_path: Path) -> None:
    """Also the usual ones: beside a pretrained model they are refused, not left out."""
    file = tmp_path / "recipe.toml"
    file.write_text(f"[sizes]\nlayers = {USUAL.layers}\n", encoding="utf-8")
    assert read_recipe(TextRecipe(), file) == TextRecipe(sizes=Sizes(layers=USUAL.layers))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('start_from = "tiny"\n[recipe]\nvalid = 3\n', "start_from stands outside the table recipe"),
        (
            "version = 99\nnew = 1\n[recipe]\nvalid = 3\n",
            "expected a run of version 1 or 2 or 3 or 4, got 99",
        ),
        ("recipe = 3\n", "expected a table named recipe, got 3"),
        ("[recipe.sizes]\nposition = 3\n", "sizes.position: expected a word, got 3"),
        (
            'version = 4\ntask = "chat"\n[recipe]\nsizes = 3\n',
            "expected a table, got 3; this is a run of chat",
        ),
    ],
)
def test_recipes_that_would_be_half_read_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"recipe.toml: .*{said}"):
        read_recipe(TextRecipe(), file)
    file.write_text("[recipe]\nvalid = 3\n", encoding="utf-8")
    assert read_recipe(TextRecipe(), file).valid == 3


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("now", [None, Softmax()])
@pytest.mark.parametrize("then", [None, Softmax()])
def test_softmax_of_a_new_model_is_the_same_said_or_not(
    tmp_path: Path, then: Softmax | None, now: Softmax | None, version: int
) -> None:
    began, goes_on = (TextRecipe(sizes=Sizes(attention=said)) for said in (then, now))
    write_description(tmp_path, RunDescription("t", "d", began, version=version))
    if version == 3:
        file = tmp_path / "run.toml"
        values = tomllib.loads(file.read_text(encoding="utf-8"))
        values["recipe"]["sizes"]["attention"] = "none" if then is None else {"name": "softmax"}
        file.write_text(tomli_w.dumps(values), encoding="utf-8")
    check_folder(tmp_path, read_description(tmp_path), RunDescription("t", "d", goes_on), resume=True)
    with pytest.raises(UserError, match="attention"):
        other = TextRecipe(sizes=Sizes(attention=Local(3)))
        check_folder(tmp_path, read_description(tmp_path), RunDescription("t", "d", other), resume=True)


def test_a_size_that_an_older_version_had_not_was_as_usual(tmp_path: Path) -> None:
    write_description(tmp_path, RunDescription("t", "d", TextRecipe(), version=3))
    values = read_description(tmp_path)
    del values["recipe"]["sizes"]["initial_deviation"]
    check_folder(tmp_path, values, RunDescription("t", "d", TextRecipe()), resume=True)
    with pytest.raises(UserError, match=r"initial_deviation 0\.05 there, 0\.2 now"):
        other = TextRecipe(sizes=Sizes(initial_deviation=0.2))
        check_folder(tmp_path, values, RunDescription("t", "d", other), resume=True)


def test_choices_come_before_their_details(tmp_path: Path) -> None:
    write_description(tmp_path, RunDescription("t", "d", TextRecipe()))
    sizes = Sizes(hidden_size=8, layers=1, attention_heads=1, intermediate_size=8)
    other = RunDescription("t", "d", TextRecipe(sizes=sizes, valid=3))
    with pytest.raises(UserError, match=r"choices \(recipe\.valid 1000 there, 3 now; recipe\.sizes"):
        check_folder(tmp_path, read_description(tmp_path), other, resume=True)


def test_a_run_toml_that_cannot_be_opened_is_not_called_incomplete(tmp_path: Path) -> None:
    (tmp_path / "run.toml").mkdir()
    with pytest.raises(UserError, match=r"run\.toml: cannot be read \([^)]*\)$"):
        read_description(tmp_path)


def test_a_run_that_lost_its_sizes_is_told_so(tmp_path: Path) -> None:
    write_description(tmp_path, RunDescription("t", "d", TextRecipe()))
    values = read_description(tmp_path)
    del values["recipe"]["sizes"]
    with pytest.raises(UserError, match=r"\(recipe\.sizes is missing there\)"):
        check_folder(tmp_path, values, RunDescription("t", "d", TextRecipe()), resume=True)


def test_a_mechanism_that_an_older_version_wrote_is_kept(tmp_path: Path) -> None:
    recipe = TextRecipe(sizes=Sizes(attention=Local(4)))
    write_description(tmp_path, RunDescription("t", "d", recipe, version=2))
    assert read_recipe(TextRecipe(), tmp_path / "run.toml") == recipe
