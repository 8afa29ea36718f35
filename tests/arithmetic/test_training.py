"""The main job in small: it learns, saves, resumes, solves and judges; and says clearly what it cannot do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hanformer.arithmetic.evaluation import evaluate
from hanformer.arithmetic.expression import evaluate as value_of
from hanformer.arithmetic.expression import parse_written
from hanformer.arithmetic.layouts import Noise
from hanformer.arithmetic.recipe import Recipe
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.report import Report, accuracy_table, write_report
from hanformer.arithmetic.solver import Solution, Solver
from hanformer.arithmetic.training import (
    discard_run,
    load_solver,
    make_layout,
    make_model,
    train,
    training_problems,
)
from hanformer.cli.train_arithmetic import Arithmetic
from hanformer.errors import UserError
from hanformer.mechanisms import Local
from hanformer.models import load
from hanformer.train.history import History
from hanformer.train.sizes import USUAL
from tests.arithmetic.tiny import RECIPE, tiny_data, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("runs") / "tiny")


def test_it_learns_a_few_problems(run: Path) -> None:
    evaluation = evaluate(load_solver(run), tiny_data().tests["test"])
    assert evaluation.score.accuracy >= 0.9
    assert set(evaluation.by_kind()) == {"年龄", "归一"}
    assert sum(score.total for score in evaluation.by_kind().values()) == evaluation.score.total
    assert "年龄" in accuracy_table("test", evaluation)


def test_best_is_opened_by_its_own_name_and_after_a_cut_between_two_renames(run: Path) -> None:
    (run / "best").rename(run / ".best.previous")
    assert load_solver(run).beams == 3
    assert (run / "best").is_dir() and load_solver(run / "best").layout.end == load_solver(run).layout.end


def test_solutions_are_exact_and_consistent(run: Path) -> None:
    solver = load_solver(run, beams=3)
    for problem in tiny_data().tests["test"]:
        solution = solver.solve(problem.text)
        assert value_of(parse_written(solution.expression)) == solution.value
        assert isinstance(solution.value, Fraction)
        assert 0 < solution.probability <= 1 + 1e-9


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_is_solved_as_one_by_one(run: Path, beams: int) -> None:
    # In bf16 rounding, which depends on the batch, shows.
    solver = load_solver(run, beams=beams, precision="fp32")
    texts = [problem.text for problem in tiny_data().train[:12]] + ["一共有3个和5个，多少个？"]
    together = solver.solve_all(texts)
    for text, found in zip(texts, together, strict=True):
        assert isinstance(found, Solution)
        alone = solver.solve(text)
        assert (alone.expression, alone.value) == (found.expression, found.value)
        assert alone.probability == pytest.approx(found.probability, rel=1e-4)


def test_unreadable_problems_do_not_disturb_the_others(run: Path) -> None:
    solver = load_solver(run)
    texts = ["", tiny_data().train[0].text, "题" * 10_000]
    empty, solved, long = solver.solve_all(texts)
    assert isinstance(empty, UserError) and isinstance(long, UserError)
    assert isinstance(solved, Solution)


def test_problems_that_cannot_be_judged_count_as_wrong(run: Path) -> None:
    problems = [
        Problem("a", "", "x=1", "1"),
        Problem("b", "3个和5个？", "x=3+5", None),
        Problem("c", "3个", "x=3", "?"),
    ]
    score = evaluate(load_solver(run), problems).score
    assert (score.right, score.total) == (0, 3)


def test_the_run_folder_is_a_model_folder(run: Path) -> None:
    model = load(run)
    assert model.config.application == "unilm"
    for name in ("run.toml", "history.jsonl", "layout.json", "best/config.json", "last/state.json"):
        assert (run / name).exists(), name


def test_a_cut_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    data = tiny_data()
    # Everything random is on; the rate does not depend on where the run is told to end.
    recipe = replace(
        RECIPE,
        sizes=replace(RECIPE.sizes, dropout=0.1),
        noise=Noise(piece_dropout=0.1, mask=0.1, writings=0.5),
        train=replace(RECIPE.train, schedule="constant", updates=24, validate_every=12, average="ema"),
    )
    train(recipe, data, tmp_path / "whole")
    train(replace(recipe, train=replace(recipe.train, updates=7)), data, tmp_path / "cut")
    train(recipe, data, tmp_path / "cut", resume=True)
    whole, cut = (
        load_file(tmp_path / "whole/last/model.safetensors"),
        load_file(tmp_path / "cut/last/model.safetensors"),
    )
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name


def test_a_run_is_not_overwritten_by_accident(run: Path) -> None:
    with pytest.raises(UserError, match="--resume"):
        train(RECIPE, tiny_data(), run)


def test_it_trains_and_solves_in_bfloat16(tmp_path: Path) -> None:
    recipe = replace(RECIPE, train=replace(RECIPE.train, updates=6, validate_every=3, precision="bf16"))
    train(recipe, tiny_data(), tmp_path / "run")
    solver = load_solver(tmp_path / "run", precision="bf16")
    assert {weight.dtype for weight in solver.model.parameters()} == {torch.bfloat16}
    assert isinstance(solver.solve(tiny_data().train[0].text), Solution)


def test_a_run_goes_on_by_its_own_recipe_alone(run: Path, tmp_path: Path) -> None:
    before = (run / "run.toml").read_bytes()
    longer = replace(RECIPE, train=replace(RECIPE.train, updates=500))
    for other in (
        replace(longer, token_budget=999),
        replace(longer, slots=replace(RECIPE.slots, order="infix")),
    ):
        with pytest.raises(UserError, match="other choices"):
            train(other, tiny_data(), run, resume=True)
    assert (run / "run.toml").read_bytes() == before
    with pytest.raises(UserError, match="not a run folder"):
        train(RECIPE, tiny_data(), tmp_path, resume=True)


def test_what_is_discarded_is_the_run_alone(tmp_path: Path) -> None:
    folder = tiny_run(tmp_path / "run", updates=2)
    (folder / "thesis.txt").write_text("years of work")
    discard_run(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_raw_layout_learns_too(tmp_path: Path) -> None:
    recipe = replace(RECIPE, layout="raw", train=replace(RECIPE.train, updates=150))
    train(recipe, tiny_data(24), tmp_path / "raw")
    evaluation = evaluate(load_solver(tmp_path / "raw"), tiny_data(24).tests["test"])
    assert evaluation.score.accuracy >= 0.5


def test_a_saved_model_can_be_fine_tuned(tmp_path: Path) -> None:
    raw = replace(RECIPE, layout="raw", train=replace(RECIPE.train, updates=2, validate_every=2))
    train(raw, tiny_data(), tmp_path / "first")
    begun = replace(raw, start_from=str(tmp_path / "first" / "best"))
    train(begun, tiny_data(), tmp_path / "second")
    assert load(tmp_path / "second").config.application == "unilm"
    with pytest.raises(UserError, match="layout=raw"):
        replace(begun, layout="slots")


@pytest.mark.parametrize(
    "missing",
    [
        "run.toml",
        "best/config.json",
        "best/model.safetensors",
        "best/pointer.safetensors",
        "best/layout.json",
    ],
)
def test_incomplete_runs_are_named(run: Path, tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "copy"
    for path in run.rglob("*"):
        if path.is_file() and str(path.relative_to(run)) != missing:
            (copy / path.relative_to(run)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(run)).write_bytes(path.read_bytes())
    with pytest.raises(UserError):
        load_solver(copy)


def test_a_run_of_another_version_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('version = 99\ntask = "arithmetic"\n')
    with pytest.raises(UserError, match="version 1 or 2 or 3 or 4, got 99"):
        load_solver(tmp_path)
    with pytest.raises(UserError, match="no such run folder"):
        load_solver(tmp_path / "nowhere")


def test_foreign_folders_are_not_removed(tmp_path: Path, run: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no run folder"):
        discard_run(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    discard_run(tmp_path / "nothing here")


def test_the_report_is_one_file_with_everything(run: Path, tmp_path: Path) -> None:
    evaluation = evaluate(load_solver(run), tiny_data().tests["test"])
    page = tmp_path / "report.html"
    history = History.read(run / "history.jsonl")
    write_report(page, Report("Word problems <&>", run, history, {"test": evaluation}))
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text and "年龄" in text and "Word problems &lt;&amp;&gt;" in text
    assert "src=" not in text and "<link" not in text


def test_beams_below_one_are_refused(run: Path) -> None:
    solver = load_solver(run)
    with pytest.raises(UserError, match="beams"):
        Solver(solver.model, solver.layout, beams=0)


def test_going_on_without_a_state_is_refused_and_loses_nothing(run: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(run, cut)
    shutil.rmtree(cut / "last")
    before = (cut / "best" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="no state to go on from"):
        train(RECIPE, tiny_data(), cut, resume=True)
    assert (cut / "best" / "model.safetensors").read_bytes() == before


def test_a_truncated_description_changes_no_answer(run: Path, tmp_path: Path) -> None:
    """That there is a pointer is told by its weights; without any recipe the run is refused."""
    cut = tmp_path / "cut"
    shutil.copytree(run, cut)
    text = (cut / "run.toml").read_text(encoding="utf-8")
    assert "\npointer = true" in text
    (cut / "run.toml").write_text(text.replace("\npointer = true", ""), encoding="utf-8")
    problems = [problem.text for problem in tiny_data().train[:4]]
    whole, other = (load_solver(folder, beams=1).solve_all(problems) for folder in (run, cut))
    assert [str(one) for one in whole] == [str(one) for one in other]
    (cut / "run.toml").write_text(text[: text.index("[recipe")], encoding="utf-8")
    with pytest.raises(UserError, match="expected a table named recipe"):
        load_solver(cut)


@pytest.mark.parametrize(
    "name", ["slots.order=postfix", "slots.slots=0", "slots.pieces=0", "slots.writing=best"]
)
def test_senseless_slots_are_refused_at_once(name: str) -> None:
    field, _, value = name.partition("=")
    with pytest.raises(UserError, match="slots"):
        RECIPE.changed({field: value})


def test_a_model_in_half_precision_is_fine_tuned_in_full(tmp_path: Path) -> None:
    short = replace(RECIPE.train, updates=1, validate_every=1)
    recipe = replace(RECIPE, layout="raw", start_from="tiny", sizes=Recipe().sizes, train=short)
    train(recipe, tiny_data(8), tmp_path / "run")
    weights = load(tmp_path / "run").state_dict().values()
    assert all(weight.dtype == torch.float32 for weight in weights)


def test_generated_problems_can_be_added_to_published_ones() -> None:
    data = replace(tiny_data(), source="math23k")
    recipe = replace(RECIPE, limit=5, extra_generated=7)
    problems = training_problems(recipe, data)
    assert problems[:5] == data.train[:5]
    assert len(problems) == 12 and len({problem.text for problem in problems[5:]}) == 7
    assert training_problems(RECIPE, data) == data.train
    with pytest.raises(UserError, match="generated already"):
        training_problems(recipe, tiny_data())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise.writings": "1.5"}, "writings is a share"),
        ({"noise.writings": "0.5", "layout": "raw"}, "only the layout slots"),
        ({"extra_generated": "-1"}, "extra_generated: expected"),
    ],
)
def test_choices_out_of_range_are_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Recipe().changed(changes)


def test_fields_of_one_group_need_no_group() -> None:
    named = {"attention": "local", "attention.radius": "8", "epochs": "3", "order": "infix", "mask": "0.2"}
    recipe = Recipe().changed(named)
    assert recipe == Recipe().changed(
        {
            "sizes.attention": "local",
            "sizes.attention.radius": "8",
            "train.epochs": "3",
            "slots.order": "infix",
            "noise.mask": "0.2",
        }
    )
    assert recipe.sizes.attention == Local(radius=8)
    with pytest.raises(UserError, match="constants"):
        Recipe().changed({"constants": "1"})


def test_a_shape_that_no_model_can_have_is_told_before_data_are_read() -> None:
    command = Arithmetic(out=Path("run"), assignments=["hidden_size=100", "attention_heads=7"])
    with pytest.raises(UserError, match="hidden_size 100 must be a multiple of attention_heads 7"):
        command.choose()


def test_a_pretrained_model_takes_a_mechanism_and_no_sizes() -> None:
    """The sizes of a preset are nobody's wish; those that are named are, also where they are the usual ones."""
    for preset in (None, "default", "demo"):
        command = Arithmetic(
            out=Path("run"), recipe=preset, start_from="tiny", assignments=["layout=raw", "attention=local"]
        )
        recipe = command.choose()
        assert make_model(recipe, make_layout(recipe, ())).config.attention == Local()
    assert load("tiny").config.layers != USUAL.layers
    for layers in (1, USUAL.layers):
        with pytest.raises(UserError, match=f"layers={layers} would be of a new one"):
            make_model(recipe.changed({"layers": str(layers)}), make_layout(recipe, ()))
