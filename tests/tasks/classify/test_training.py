"""Classification from files to labels: learns toy sets, with every loss and trick, resumes, refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hanformer
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.tasks.classify import ClassifyRecipe, train
from hanformer.tasks.classify.examples import text_windows
from hanformer.tasks.classify.labels import ClassNames
from hanformer.tasks.classify.losses import TAYLOR
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.train.runs import read_recipe
from hanformer.train.sizes import settled
from tests.tasks.classify.toy import MANY, ONE, RECIPE, many_labels, one_label, write_rows

OPTIONS = ServingOptions(precision="fp32")


def best(history) -> float:
    return max(record.metrics["micro_f1"] for record in history.validations)


def short(recipe: ClassifyRecipe, updates: int) -> ClassifyRecipe:
    return replace(recipe, train=replace(recipe.train, updates=updates, validate_every=updates))


def test_one_label_is_learned_and_served(tmp_path: Path) -> None:
    assert best(train(RECIPE, ONE, tmp_path / "run")) > 0.95
    service = open_service(tmp_path / "run", OPTIONS)
    said = service.predict(["甲天乙", " ", "丙玄"])
    assert said[0].startswith("天 ") and said[2].startswith("玄 ") and isinstance(said[1], UserError)
    assert 0.5 < float(said[0].split()[1]) <= 1
    found = service.evaluate(str(write_rows(tmp_path / "test.tsv", one_label(30, 5))))
    assert found.figures["accuracy"] == found.figures["micro_f1"] > 0.9
    assert len(found.rows) == 30 and "true class by row" in found.text
    assert isinstance(hanformer.load(tmp_path / "run"), Transformer)
    with pytest.raises(UserError, match="row 1: the label '黄'"):
        service.evaluate(str(write_rows(tmp_path / "other.tsv", [replace(ONE.train[0], labels=("黄",))])))
    with pytest.raises(UserError, match="without"):
        service.evaluate("x", tmp_path)


def test_a_taylor_softmax_is_learned_and_served(tmp_path: Path) -> None:
    assert best(train(replace(RECIPE, loss="taylor"), ONE, tmp_path / "run")) > 0.93
    judge = open_service(tmp_path / "run", OPTIONS).judge
    kept = {}
    judge.model.classifier.register_forward_hook(lambda module, given, scores: kept.update(scores=scores))
    said = judge.answers(["甲天乙"], lambda tokenizer, text: text_windows(tokenizer, text, 24, 4))
    name, probability = said[0].split()
    expected = TAYLOR(kept["scores"])[0]
    assert name == "天" and float(probability) == pytest.approx(float(expected.max()), abs=1e-4)
    assert float(kept["scores"].softmax(-1).max()) != pytest.approx(float(expected.max()), abs=1e-3)


@pytest.mark.parametrize("loss", ["zlpr", "sigmoid"])
def test_many_labels_are_learned_and_served(tmp_path: Path, loss: str) -> None:
    assert best(train(replace(RECIPE, loss=loss), MANY, tmp_path / "run")) > 0.93
    thresholds = json.loads((tmp_path / "run" / "best" / "thresholds.json").read_text())
    assert (thresholds == [0.0] * 3) == (loss == "zlpr") and len(set(thresholds)) == 1
    service = open_service(tmp_path / "run", OPTIONS)
    said = service.predict(["甲天乙玄", "甲乙丙"])
    assert {part.split()[0] for part in said[0].split("\t")} == {"天", "玄"} and said[1] == "-"
    found = service.evaluate(str(write_rows(tmp_path / "test.tsv", many_labels(30, 5))))
    assert found.figures["micro_f1"] > 0.9 and "true class by row" not in found.text


@pytest.mark.parametrize(
    ("loss", "tricks", "pooling"),
    [
        ("focal", ("fgm", "mixup:0.2"), "cls"),
        ("cross_entropy", ("r_drop", "gradient_penalty", "noise"), "cls"),
        ("taylor", ("r_drop", "vat", "noise_penalty", "mixup"), "mean"),
        ("zlpr", ("r_drop", "vat", "fgm_of_table"), "mean"),
        ("sigmoid", ("mixup", "noise_penalty"), "pooled"),
        ("sigmoid_focal", ("pgd", "multiplicative_noise"), "last"),
    ],
)
def test_losses_and_tricks_go_together(
    tmp_path: Path, loss: str, tricks: tuple[str, ...], pooling: str
) -> None:
    recipe = short(replace(RECIPE, loss=loss, tricks=tricks, pooling=pooling), 3)
    history = train(recipe, MANY if recipe.kind.many else ONE, tmp_path / "run")
    assert torch.isfinite(torch.tensor(history.validations[-1].metrics["loss"]))
    assert settled(read_recipe(ClassifyRecipe(), tmp_path / "run" / "run.toml")) == settled(recipe)


@pytest.mark.parametrize("unlabelled", [(), ("甲乙丙", "天地" * 30)])
def test_a_cut_run_goes_on_as_if_it_had_not_been(tmp_path: Path, unlabelled: tuple[str, ...]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    data = replace(ONE, train=one_label(60, 3, longest=50), unlabelled=unlabelled)
    options = replace(RECIPE.train, updates=12, schedule="constant", best_by="loss", higher_is_better=False)
    recipe = replace(RECIPE, train=options)
    train(recipe, data, whole)
    train(replace(recipe, train=replace(recipe.train, updates=5)), data, cut)
    train(recipe, data, cut, resume=True)
    first, second = (
        torch.cat([p.flatten() for p in open_service(run, OPTIONS).judge.model.parameters()])
        for run in (whole, cut)
    )
    assert torch.equal(first, second)
    with pytest.raises(UserError, match="already holds a run"):
        train(recipe, data, whole)
    with pytest.raises(UserError, match="loss"):
        train(replace(recipe, loss="focal"), data, whole, resume=True)


def test_a_resumed_run_keeps_the_order_of_its_classes(tmp_path: Path) -> None:
    """Whatever the class file says by now: the weights stand in the old order."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    turned = replace(ONE, names=ClassNames(ONE.names.names[::-1]))
    recipe = replace(RECIPE, train=replace(RECIPE.train, updates=12, schedule="constant"))
    train(recipe, ONE, whole)
    train(replace(recipe, train=replace(recipe.train, updates=5)), ONE, cut)
    train(recipe, turned, cut, resume=True)
    said = [open_service(run, OPTIONS).predict(["甲天乙", "丙玄"]) for run in (whole, cut)]
    assert said[0] == said[1]


@pytest.mark.parametrize("penalty", ["vat", "r_drop", "noise"])
def test_texts_without_labels_join_in(tmp_path: Path, penalty: str) -> None:
    data = replace(ONE, unlabelled=[row.text for row in one_label(50, 7)])
    recipe = replace(short(RECIPE, 4), unlabelled="texts.txt", penalty=penalty)
    history = train(recipe, data, tmp_path / "run")
    assert history.validations and "unlabelled_texts = 50" in (tmp_path / "run" / "run.toml").read_text()
    plain = train(replace(recipe, unlabelled=""), ONE, tmp_path / "plain")
    assert plain.validations[-1].metrics != history.validations[-1].metrics


def test_lowest_layers_stay_frozen(tmp_path: Path) -> None:
    sizes = replace(RECIPE.sizes, layers=2)
    two = replace(RECIPE, sizes=sizes)
    train(short(two, 2), ONE, tmp_path / "first")
    recipe = short(replace(two, start_from=str(tmp_path / "first"), freeze=1, pooling="cls"), 3)
    train(recipe, ONE, tmp_path / "second")
    before, after = (hanformer.load(tmp_path / name).state_dict() for name in ("first", "second"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(("stack.blocks.1.", "stack.final_norm")) for name in changed)
    with pytest.raises(UserError, match="freeze: expected 0 to 2 layers"):
        train(replace(recipe, freeze=3), ONE, tmp_path / "third")


def test_it_stops_early(tmp_path: Path) -> None:
    options = replace(RECIPE.train, updates=500, validate_every=5, patience=2, learning_rate=1e-9, warm_up=0)
    history = train(replace(RECIPE, train=options), ONE, tmp_path / "run")
    assert history.validations[-1].update == 15


def test_class_weights_reach_the_loss(tmp_path: Path) -> None:
    data = replace(ONE, train=[row for row in ONE.train if row.labels != ("玄",) or row.row < 30])
    recipe = replace(RECIPE, train=replace(RECIPE.train, updates=1, log_every=1))
    losses = {
        words: train(replace(recipe, class_weights=words), data, tmp_path / words).records[0].loss
        for words in ("balanced", "none")
    }
    assert losses["balanced"] != losses["none"]
