"""Pairs of texts, read together and apart: learn toy sets, correlate, resume, refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import hanformer
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.tasks.pair import PairRecipe, train
from hanformer.tasks.pair.correlation import pearson, ranks, spearman
from hanformer.tasks.pair.losses import VECTOR_LOSSES
from hanformer.tasks.pair.rows import LabelledPair, PairRows, open_pairs, pairs_to_judge, read_pairs
from hanformer.tasks.pair.training import partners, texts_twice
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.tasks.text_recipe import VocabularyOptions, make_tokenizer
from hanformer.train.losses.cosent import cosent, pair_cosines
from hanformer.train.options import TrainOptions
from hanformer.train.runs import read_recipe
from hanformer.train.sizes import Sizes, settled

SIGNS, NOISE = "天地玄黄", "甲乙丙丁戊己"
OPTIONS = ServingOptions(precision="fp32")
RECIPE = PairRecipe(
    sizes=Sizes(hidden_size=32, layers=1, attention_heads=2, intermediate_size=64, dropout=0.1),
    vocabulary=VocabularyOptions(minimum_count=1),
    train=TrainOptions(
        updates=40,
        learning_rate=1e-2,
        warm_up=5,
        precision="fp32",
        best_by="score",
        higher_is_better=True,
        validate_every=20,
    ),
    token_budget=384,
    maximum_length=24,
    overlap=4,
)


def pairs(count: int, seed: int) -> list[LabelledPair]:
    """Texts with one sign each; 1 where it is the same."""
    random = Random(seed)
    rows = []
    for number in range(1, count + 1):
        first = random.choice(SIGNS)
        second = first if random.random() < 0.5 else random.choice(SIGNS)
        texts = ("".join(random.sample([sign, *random.choices(NOISE, k=3)], 4)) for sign in (first, second))
        rows.append(LabelledPair(number, *texts, (str(int(first == second)),)))
    return rows


def marked(count: int, seed: int) -> list[LabelledPair]:
    """Pairs whose class is the sign of the second text."""
    return [
        replace(row, labels=(next(sign for sign in SIGNS if sign in row.second),))
        for row in pairs(count, seed)
    ]


DATA = PairRows("toy", pairs(300, 0), pairs(60, 1))


def write_rows(path: Path, rows: list[LabelledPair]) -> Path:
    path.write_text("".join(f"{r.first}\t{r.second}\t{''.join(r.labels)}\n" for r in rows), encoding="utf-8")
    return path


def best(history) -> float:
    return max(record.metrics["score"] for record in history.validations)


@pytest.mark.parametrize("loss", ["cross_entropy", "taylor"])
def test_pairs_read_together_are_classified(tmp_path: Path, loss: str) -> None:
    data = PairRows("toy", marked(300, 0), marked(60, 1))
    assert best(train(replace(RECIPE, loss=loss), data, tmp_path / "run")) > 0.9
    service = open_service(tmp_path / "run", OPTIONS)
    said = service.predict(["天甲\t甲玄乙", "only one"])
    assert said[0].startswith("玄 ") and isinstance(said[1], UserError)
    test = write_rows(tmp_path / "test.tsv", [*marked(30, 5), replace(marked(1, 0)[0], labels=("-",))])
    found = service.evaluate(str(test))
    assert found.figures["accuracy"] > 0.85 and "30 pairs, 1 more without a label" in found.text
    assert "\t" in found.rows[0]["text"]
    assert isinstance(hanformer.load(tmp_path / "run"), Transformer)


@pytest.mark.parametrize("loss", ["cosent", "simbert"])
def test_pairs_read_apart_are_compared(tmp_path: Path, loss: str) -> None:
    alike = [row for row in DATA.train if row.labels == ("1",)]
    data = DATA if loss == "cosent" else replace(DATA, train=alike)
    assert best(train(replace(RECIPE, loss=loss), data, tmp_path / "run")) > 0.6
    service = open_service(tmp_path / "run", OPTIONS)
    same, other, wrong = service.predict(["天甲\t乙天", "天甲\t甲玄", "天甲"])
    assert float(same) > float(other) and isinstance(wrong, UserError)
    assert all(isinstance(found, UserError) for found in service.predict(["天甲", "\t"]))
    found = service.evaluate(str(write_rows(tmp_path / "test.tsv", pairs(60, 5))))
    assert found.figures["spearman"] > 0.6 and len(found.rows) == 60
    assert isinstance(hanformer.load(tmp_path / "run"), Transformer)


def test_simcse_needs_no_labels_to_train(tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        loss="simcse",
        tricks=("fgm", "noise"),
        train=replace(RECIPE.train, updates=3, validate_every=3),
    )
    data = replace(DATA, train=[replace(row, labels=()) for row in DATA.train])
    history = train(recipe, data, tmp_path / "run")
    assert -1 <= history.validations[-1].metrics["spearman"] <= 1
    assert settled(read_recipe(PairRecipe(), tmp_path / "run" / "run.toml")) == settled(recipe)
    assert "training_texts" in (tmp_path / "run" / "run.toml").read_text()


@pytest.mark.parametrize("loss", ["cosent", "cross_entropy"])
def test_a_cut_run_goes_on_as_if_it_had_not_been(tmp_path: Path, loss: str) -> None:
    options = replace(RECIPE.train, updates=6, validate_every=6, schedule="constant")
    recipe = replace(RECIPE, loss=loss, train=options)
    train(recipe, DATA, tmp_path / "whole")
    train(replace(recipe, train=replace(recipe.train, updates=3)), DATA, tmp_path / "cut")
    train(recipe, DATA, tmp_path / "cut", resume=True)
    whole, cut = (tensors(tmp_path / name / "last") for name in ("whole", "cut"))
    assert whole and all(torch.equal(whole[name], cut[name]) for name in whole)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {
        name: value
        for path in sorted(folder.rglob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def tokenizer_of(rows: list[LabelledPair]):
    return make_tokenizer(RECIPE, [text for row in rows for text in (row.first, row.second)])


def test_batches_hold_partners_side_by_side() -> None:
    rows = pairs(20, 3)
    tokenizer = tokenizer_of(rows)
    known = {(row.first, row.second): float(row.labels[0]) for row in rows}
    seen = 0
    for batch in partners(RECIPE, tokenizer, rows).batches(60, 0).batches(0):
        texts = [tokenizer.decode(ids.tolist()) for ids in batch.token_ids.split(list(batch.layout.lengths))]
        for place, label in enumerate(batch.labels.tolist()):
            assert known[(texts[2 * place], texts[2 * place + 1])] == label
            seen += 1
    assert seen == 20
    for batch in texts_twice(RECIPE, tokenizer, rows).batches(60, 0).batches(0):
        ids = batch.token_ids.split(list(batch.layout.lengths))
        assert all(torch.equal(ids[place], ids[place + 1]) for place in range(0, len(ids), 2))


def test_cosent_weighs_pairs() -> None:
    vectors, labels = torch.randn(8, 4), torch.tensor([1.0, 0, 1, 0])
    loss = VECTOR_LOSSES["cosent"].compute(vectors, labels, 20.0)
    assert loss.count == 4 and torch.allclose(loss.mean(), cosent(pair_cosines(vectors), labels, 20.0))


def test_correlations_are_their_definitions() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    left = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert spearman(left, left.exp()) == pytest.approx(1) and spearman(left, -left) == pytest.approx(-1)
    # Without ties: 1 − 6 Σ d² / (n (n² − 1)).
    right = torch.tensor([2.0, 1.0, 4.0, 3.0])
    assert spearman(left, right) == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert pearson(left, 3 * left + 1) == pytest.approx(1) and pearson(left, torch.ones(4)) == 0
    with pytest.raises(UserError, match="two lists of one length"):
        pearson(left, left[:2])


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_files_are_read(tmp_path: Path) -> None:
    for name, text in {
        "a.data": "甲\t乙\t1\n",
        "b.json": '{"sentence1": "甲", "sentence2": "乙", "label": "1"}\n',
        "c.txt": "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n1\t甲\t乙\t1\tNEUTRAL\n",
    }.items():
        (row,) = read_pairs(written(tmp_path, name, text), RECIPE)
        assert (row.first, row.second, row.labels) == ("甲", "乙", ("1",))
    numbered = replace(RECIPE, first="2", second="3", label="4")
    (row,) = read_pairs(written(tmp_path, "atec.tsv", "\ufeff1\t\ufeff甲\t乙\t1\n"), numbered)
    assert (row.first, row.second, row.labels) == ("甲", "乙", ("1",))
    (row,) = read_pairs(written(tmp_path, "rank.json", '{"query": "甲", "title": "乙"}\n'), RECIPE)
    assert row.labels == ()


def test_pairs_without_what_the_loss_needs_are_left_out(tmp_path: Path) -> None:
    text = "甲\t乙\t1\n甲\t丙\t0\n甲\t丁\t\n甲\t戊\t-\n"
    train_file, valid = written(tmp_path, "train.tsv", text), written(tmp_path, "valid.tsv", text)
    for loss, kept in {"cosent": 2, "simbert": 3, "simcse": 4, "cross_entropy": 2}.items():
        data = open_pairs(train_file, replace(RECIPE, loss=loss), valid_file=valid)
        assert (len(data.train), len(data.valid), data.left_out) == (kept, 2, 4 - kept + 2)
    assert [len(pairs_to_judge(valid, RECIPE)[0]), pairs_to_judge(valid, RECIPE)[1]] == [2, 2]
    bare = written(tmp_path, "bare.tsv", "甲\t乙\n甲\t丙\n")
    with pytest.raises(UserError, match="of 2 pairs 0 have what loss=cosent trains on"):
        open_pairs(bare, replace(RECIPE, loss="cosent"), valid_file=valid)
    with pytest.raises(UserError, match="none of 2 pairs has a label"):
        pairs_to_judge(bare, RECIPE)
    with pytest.raises(UserError, match="row 1: expected a number"):
        read_pairs(written(tmp_path, "words.tsv", "甲\t乙\tyes\n"), replace(RECIPE, loss="cosent"))
    with pytest.raises(UserError, match="row 1: expected a text that is not empty"):
        read_pairs(written(tmp_path, "empty.tsv", "甲\t\t1\n"), RECIPE)


def test_held_out_labels_must_differ(tmp_path: Path) -> None:
    same = [row for row in DATA.valid if row.labels == ("1",)]
    with pytest.raises(UserError, match="nothing to choose by"):
        train(replace(RECIPE, loss="cosent"), replace(DATA, valid=same), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "zlpr"}, "loss: expected one of cross_entropy, focal, taylor, cosent"),
        ({"loss": "cosent", "tricks": ("r_drop",)}, "r_drop: has no meaning here"),
        ({"loss": "simcse", "class_weights": "balanced"}, "are for classes"),
        ({"loss": "cosent", "token_budget": 30}, "room for two texts"),
        ({"scale": -1.0}, "scale"),
    ],
)
def test_choices_that_contradict_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(RECIPE, **changes)
