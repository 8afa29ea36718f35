"""Pointer scoring against loops over rows, places and slots; and runs that have it, or were made before it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from hanformer.arithmetic.evaluation import evaluate
from hanformer.arithmetic.expression import evaluate as value_of
from hanformer.arithmetic.expression import parse
from hanformer.arithmetic.layouts import Noise
from hanformer.arithmetic.pointer import (
    PointerTransformer,
    SlotPointer,
    add_pointer,
    load_pointer,
    pointed_logits,
    slot_ids,
)
from hanformer.arithmetic.recipe import Recipe, description_of
from hanformer.arithmetic.solver import Solver
from hanformer.arithmetic.training import load_layout, load_solver, make_layout, make_model, train
from hanformer.data.sequences import Pair, join_pairs
from hanformer.decode import Beam, generate
from hanformer.errors import UserError
from hanformer.models import Transformer, load, save
from hanformer.train.checkpoint import weights_of
from hanformer.train.parts import PartsRun, write_part
from hanformer.train.sequence import predict_targets
from tests.arithmetic.tiny import RECIPE, tiny_data, tiny_run
from tests.harness import DECODING, EXACT, Rows, UncachedState, random_model, run_packed, tiny_config

CONFIG = tiny_config(application="unilm")
SLOTS = (5, 6, 7, 8)
WORDS = tuple(range(9, CONFIG.vocab_size))
PAIRS = (
    Pair((1, 5, 10, 6, 2), (9, 6, 5, 2)),  # slots in the target are no places to point to
    Pair((7,), (7, 2)),  # a slot alone, out of order
    Pair((1, 11, 12, 2), (3, 2)),  # no slot at all
    Pair((8, 1, 9, 9, 6, 5, 7), (2,)),  # all slots, nothing but the end to predict
)


def pointer_model(seed: int = 1) -> PointerTransformer:
    stack = random_model(CONFIG, seed=seed)
    return PointerTransformer(stack, SlotPointer(CONFIG.hidden_size, SLOTS).double()).eval()


def naive(model: PointerTransformer, ids: Sequence[int], segments: Sequence[int]) -> Tensor:
    """[L, V]: one row alone, slot by slot as the formula is written."""
    hidden, logits = run_packed(model.transformer, Rows([list(ids)], [list(segments)]))
    query, key = model.pointer.query.weight, model.pointer.key.weight
    rows = []
    for place, row in enumerate(logits):
        added = [0.0 * row[0]] * len(row)
        for number, token in enumerate(ids):
            if token in SLOTS and segments[number] == 0:
                score = (query @ hidden[place]).dot(key @ hidden[number])
                added[token] = score / math.sqrt(CONFIG.hidden_size)
        rows.append(row + torch.stack(added))
    return torch.stack(rows)


def naive_batch(model: PointerTransformer, pairs: Sequence[Pair]) -> Tensor:
    """[M, V]: what `pointed_logits` should give, row by row."""
    parts = []
    for pair in pairs:
        ids = pair.source + pair.target[:-1]
        segments = [0] * len(pair.source) + [1] * (len(pair.target) - 1)
        parts.append(naive(model, ids, segments)[len(pair.source) - 1 :])
    return torch.cat(parts)


def test_packed_logits_are_those_of_the_formula() -> None:
    model = pointer_model()
    torch.testing.assert_close(pointed_logits(model, join_pairs(PAIRS)), naive_batch(model, PAIRS), **EXACT)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_packed_logits_of_any_rows(seed: int, rows: int) -> None:
    random = Random(seed)

    def pair() -> Pair:
        source = random.choices(WORDS, k=random.randint(1, 6)) + random.sample(SLOTS, random.randint(0, 4))
        random.shuffle(source)
        return Pair(tuple(source), (*random.choices(WORDS + SLOTS, k=random.randint(0, 4)), 2))

    model, pairs = pointer_model(seed % 7), [pair() for _ in range(rows)]
    torch.testing.assert_close(pointed_logits(model, join_pairs(pairs)), naive_batch(model, pairs), **EXACT)


def test_gradients_are_those_of_the_formula_and_reach_both_projections() -> None:
    model, batch = pointer_model(), join_pairs(PAIRS)
    loss = predict_targets(0.1, pointed_logits)(model, batch)
    expected = torch.nn.functional.cross_entropy(
        naive_batch(model, PAIRS), batch.labels, reduction="sum", label_smoothing=0.1
    )
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(loss.total, list(parameters.values()), allow_unused=True)
    wanted = torch.autograd.grad(expected, list(parameters.values()), allow_unused=True)
    for name, left, right in zip(parameters, found, wanted, strict=True):
        torch.testing.assert_close(left, right, **EXACT)
        assert not name.startswith("pointer.") or left.abs().max() > 1e-6, name


def test_slots_that_a_problem_does_not_have_keep_their_logits() -> None:
    model, batch = pointer_model(), join_pairs(PAIRS)
    stack, layout = model.transformer, batch.layout
    plain = stack.lm_logits(stack.body(stack.embed(batch.token_ids, layout), layout)[batch.predictors])
    changed = pointed_logits(model, batch) != plain
    problems = layout.row_of_token[batch.predictors].tolist()
    for problem, row in zip(problems, changed, strict=True):
        present = set(SLOTS) & set(PAIRS[problem].source)
        assert set(row.nonzero().squeeze(1).tolist()) == present


class Uncached(UncachedState):
    """Every row from its beginning at every step, by the formula."""

    def logits(self, count: int) -> Tensor:
        rows = zip(self.rows.ids, self.rows.segments, strict=True)
        return torch.stack([naive(self.model, *row)[-count:] for row in rows])


@torch.no_grad()
def test_cached_decoding_is_uncached_decoding() -> None:
    model = pointer_model()
    prompts = [[1, 5, 10, 6, 2], [7], [11, 12, 8, 2, 5, 6, 7, 3]]
    uncached = Uncached(model.transformer, Rows(prompts, [[0] * len(row) for row in prompts]))
    uncached.segment, uncached.model = 1, model
    logits, state = model.prompt(prompts)
    torch.testing.assert_close(logits, uncached.logits(1)[:, 0], **EXACT)
    for action, argument in DECODING:
        if action == "step":
            tokens = torch.randint(CONFIG.vocab_size, (len(uncached.rows.ids), argument))
            torch.testing.assert_close(model.step(tokens, state), uncached.step(tokens), **EXACT)
        elif action == "select":
            state.select(torch.tensor(argument))
            uncached.select(argument)
        else:
            state.truncate(argument)
            uncached.truncate(argument)
        assert state.length == uncached.length


def test_a_beam_search_does_not_depend_on_the_batch() -> None:
    model = pointer_model()
    prompts = [[1, 5, 10, 6, 2], [7], [11, 12, 2], [8, 5, 9]]

    def search(rows: list[list[int]]) -> list[list[tuple[tuple[int, ...], float]]]:
        logits, state = model.prompt(rows)
        rule = Beam(3, results=3)
        found = generate(model.step, state, logits, rule=rule, end_id=2, maximum_length=6)
        return [[(one.tokens, round(one.score, 8)) for one in row] for row in found]

    assert search(prompts) == [search([row])[0] for row in prompts]


def test_decoding_in_training_mode_is_refused() -> None:
    model = pointer_model()
    _, state = model.prompt([[7]])
    with pytest.raises(UserError, match=r"eval\(\)"):
        model.train().prompt([[7]])
    with pytest.raises(UserError, match=r"eval\(\)"):
        model.step(torch.tensor([[7]]), state)


@pytest.mark.parametrize("count", [1, 4, 15])
@pytest.mark.parametrize("chinese_numerals", [False, True])
def test_the_ids_of_slots_are_found(count: int, chinese_numerals: bool) -> None:
    slots = replace(RECIPE.slots, slots=count, chinese_numerals=chinese_numerals)
    layout = make_layout(replace(RECIPE, slots=slots), tiny_data().train)
    assert slot_ids(layout) == tuple(layout._ids[f"[N{index}]"] for index in range(count))


def test_the_rest_of_a_model_is_drawn_as_without_a_pointer() -> None:
    layout = make_layout(RECIPE, tiny_data().train)
    torch.manual_seed(3)
    plain = make_model(replace(RECIPE, pointer=False), layout)
    torch.manual_seed(3)
    pointed = make_model(RECIPE, layout)
    assert isinstance(plain, Transformer) and isinstance(pointed, PointerTransformer)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, pointed.transformer.state_dict()[name]), name
    deviations = [weight.std().item() for weight in pointed.pointer.parameters()]
    assert deviations == pytest.approx([0.88 * RECIPE.shape.initial_deviation] * 2, rel=0.1)


# On disk


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("runs") / "pointed", updates=30)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    layout = make_layout(RECIPE, tiny_data().train)
    model = make_model(RECIPE, layout).eval()
    assert isinstance(model, PointerTransformer)
    save(model.transformer, tmp_path)
    write_part(model.pointer, "pointer", tmp_path)
    opened = load_pointer(load(tmp_path), layout, tmp_path)
    rows = [layout.read(problem.text).source for problem in tiny_data().train[:3]]
    assert torch.equal(opened.prompt(rows)[0], model.prompt(rows)[0])


def test_the_best_weights_come_back_whole(tmp_path: Path) -> None:
    model = pointer_model()
    store = PartsRun(tmp_path, lambda folder: (folder / "companion").touch())
    assert store.best() is None
    store.save_best(weights_of(model), {"accuracy": 0.5})
    best = store.best()
    assert best is not None and best.keys() == weights_of(model).keys()
    assert all(torch.equal(best[name], tensor) for name, tensor in weights_of(model).items())
    assert (tmp_path / "best" / "companion").exists()


def test_a_run_with_a_pointer_is_a_model_folder_too(run: Path) -> None:
    solver = load_solver(run, precision="fp32")
    assert isinstance(solver.model, PointerTransformer)
    stack = load(run).state_dict()
    for name, tensor in solver.model.transformer.state_dict().items():
        assert torch.equal(tensor, stack[name]), name
    assert description_of(run)["recipe"]["pointer"] is True


def test_validation_and_the_opened_run_agree(tmp_path: Path) -> None:
    options = replace(RECIPE.train, updates=80, validate_every=20, average="ema", average_decay=0.8)
    history = train(replace(RECIPE, train=options), tiny_data(), tmp_path / "run")
    best = max(record.metrics["accuracy"] for record in history.validations)
    solver = load_solver(tmp_path / "run", beams=1, precision="fp32")
    assert evaluate(solver, tiny_data().valid).score.accuracy == best > 0


def test_the_pointer_changes_what_is_solved_with(run: Path) -> None:
    solver = load_solver(run, precision="fp32")
    rows = [solver.layout.read(problem.text).source for problem in tiny_data().train[:4]]
    pointed, plain = solver.model.prompt(rows)[0], load(run).prompt(rows)[0]
    slots = list(slot_ids(solver.layout))
    others = [token for token in range(pointed.shape[1]) if token not in slots]
    assert torch.equal(pointed[:, others], plain[:, others])
    assert (pointed[:, slots] - plain[:, slots]).abs().max() > 1e-3


@pytest.mark.parametrize("break_file", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_broken_pointer_is_named(run: Path, tmp_path: Path, break_file: object) -> None:
    shutil.copytree(run, tmp_path / "copy")
    break_file(tmp_path / "copy" / "best" / "pointer.safetensors")
    with pytest.raises(UserError, match=r"pointer\.safetensors"):
        load_solver(tmp_path / "copy")


def test_a_foreign_pointer_is_named(run: Path, tmp_path: Path) -> None:
    layout = load_layout(run)
    write_part(SlotPointer(8, slot_ids(layout)), "pointer", tmp_path)
    with pytest.raises(UserError, match="another model"):
        load_pointer(load(run), layout, tmp_path)


# Choices


@pytest.fixture(scope="module")
def old_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as the version before pointers wrote it."""
    folder = tiny_run(tmp_path_factory.mktemp("runs") / "old", replace(RECIPE, pointer=False), updates=12)
    text = (folder / "run.toml").read_text(encoding="utf-8")
    for line, older in (
        ("version = 4\n", "version = 1\n"),
        ("pointer = false\n", ""),
        ("r_drop = 0.0\n", ""),
    ):
        assert line in text
        text = text.replace(line, older)
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return folder


def test_an_older_run_opens_without_a_pointer(old_run: Path) -> None:
    solver = load_solver(old_run)
    assert isinstance(solver.model, Transformer)
    assert not (old_run / "best" / "pointer.safetensors").exists()
    solver.solve(tiny_data().train[0].text)


def test_an_older_run_goes_on_without_a_pointer(old_run: Path, tmp_path: Path) -> None:
    shutil.copytree(old_run, tmp_path / "old")
    longer = replace(RECIPE, train=replace(RECIPE.train, updates=14))
    with pytest.raises(UserError, match="pointer False there, True now"):
        train(longer, tiny_data(), tmp_path / "old", resume=True)
    train(replace(longer, pointer=False), tiny_data(), tmp_path / "old", resume=True)


def test_the_raw_layout_has_nothing_to_point_at(tmp_path: Path) -> None:
    recipe = replace(RECIPE, layout="raw", train=replace(RECIPE.train, updates=2, validate_every=2))
    train(recipe, tiny_data(), tmp_path / "raw")
    assert isinstance(load_solver(tmp_path / "raw").model, Transformer)


def test_a_run_toml_with_a_broken_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('version = 2\nrecipe = "mine"\n', encoding="utf-8")
    with pytest.raises(UserError, match="recipe"):
        description_of(tmp_path)


@pytest.mark.parametrize("strength", [-0.5, math.nan, math.inf])
def test_a_senseless_strength_of_r_drop_is_refused(strength: float) -> None:
    with pytest.raises(UserError, match="r_drop"):
        Recipe(r_drop=strength)


def test_a_cut_run_with_everything_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        r_drop=0.5,
        sizes=replace(RECIPE.sizes, dropout=0.1),
        noise=Noise(piece_dropout=0.1, mask=0.1),
        train=replace(RECIPE.train, schedule="constant", updates=16, validate_every=8, average="ema"),
    )
    train(recipe, tiny_data(), tmp_path / "whole")
    train(replace(recipe, train=replace(recipe.train, updates=9)), tiny_data(), tmp_path / "cut")
    train(recipe, tiny_data(), tmp_path / "cut", resume=True)
    for name in ("last/model.safetensors", "best/model.safetensors", "best/pointer.safetensors"):
        whole, cut = load_file(tmp_path / "whole" / name), load_file(tmp_path / "cut" / name)
        assert whole.keys() == cut.keys() and all(torch.equal(whole[key], cut[key]) for key in whole), name


def test_r_drop_takes_part_in_training(tmp_path: Path) -> None:
    base = replace(
        RECIPE,
        sizes=replace(RECIPE.sizes, dropout=0.1),
        train=replace(RECIPE.train, updates=2, log_every=1, validate_every=2),
    )
    losses = [
        train(replace(base, r_drop=strength), tiny_data(), tmp_path / str(strength)).training[0].loss
        for strength in (1.0, 100.0)
    ]
    assert losses[1] > losses[0]


def test_a_solver_takes_either_model() -> None:
    layout = make_layout(RECIPE, tiny_data().train)
    for recipe in (RECIPE, replace(RECIPE, pointer=False)):
        solution = Solver(make_model(recipe, layout), layout, beams=2).solve(tiny_data().train[0].text)
        assert value_of(parse(solution.expression)) == solution.value


def test_a_pointer_can_be_put_on_any_transformer_of_the_layout() -> None:
    layout = make_layout(RECIPE, tiny_data().train)
    stack = make_model(replace(RECIPE, pointer=False), layout)
    assert isinstance(stack, Transformer)
    assert add_pointer(stack, layout).transformer is stack
