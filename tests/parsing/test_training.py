"""Training on running text: what is minimised, what is carried, and what a resumed run goes on with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from hanformer.errors import UserError
from hanformer.models.recurrent_lm import RecurrentConfig, RecurrentLm
from hanformer.models.recurrent_store import load_recurrent
from hanformer.parsing.branching import left
from hanformer.parsing.evaluation import Judged, measure_text
from hanformer.parsing.parser import Parser, load_parser, score_parser, score_table
from hanformer.parsing.running_text import Window, WindowSource, streams
from hanformer.parsing.scoring import unlabelled_f1
from hanformer.parsing.splitting import by_chance, tree_of
from hanformer.parsing.training import (
    Carried,
    RecurrentRecipe,
    RecurrentTraining,
    WindowObjective,
    judged_streams,
    perplexity,
    train_recurrent,
)
from hanformer.parsing.words import Words
from hanformer.train.checkpoint import read_tensors
from hanformer.train.options import TrainOptions

NO_DROPS = {f"{name}_dropout": 0.0 for name in ("embedding", "input", "hidden", "output")}
TINY = RecurrentConfig(40, 8, 12, 2, chunk_size=4)
SENTENCES = ("a cat sees a dog", "the dog sees the cat", "a bird sings", "the old dog sees a small bird")


def tiny_model(dropouts: bool = False) -> RecurrentLm:
    torch.manual_seed(2)
    return RecurrentLm(TINY if dropouts else replace(TINY, weight_drop=0.0, **NO_DROPS))


def recipe(updates: int = 8, model: RecurrentConfig = TINY) -> RecurrentRecipe:
    train = TrainOptions(
        updates=updates,
        learning_rate=1e-2,
        schedule="constant",
        checkpoint_every=2,
        validate_every=4,
        clip_norm=0.25,
    )
    return RecurrentRecipe(model, train, rows=2, window=6)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "train.txt").write_text("\n".join(SENTENCES * 6), encoding="utf-8")
    (folder / "valid.txt").write_text("\n".join(SENTENCES * 2), encoding="utf-8")
    return folder


def test_the_loss_is_its_definition() -> None:
    model = tiny_model().train()
    ids = torch.randint(40, (8, 3))
    loss = WindowObjective(2.0, 1.5)(RecurrentTraining(model, 3), Window(ids[:-1], ids[1:], True))
    output = model.read(ids[:-1])
    cross = functional.cross_entropy(model.output(output.outputs).flatten(0, 1), ids[1:].flatten())
    last = output.raw[-1]
    wanted = cross + 2 * last.square().mean() + 1.5 * (last[1:] - last[:-1]).square().mean()
    torch.testing.assert_close(loss.mean(), wanted)
    assert loss.count == 21


def test_states_are_carried_within_an_epoch_and_begin_anew_with_it() -> None:
    """Windows one after the other give the loss of one long window; a first window forgets."""
    model, text = tiny_model().eval(), torch.randint(40, (21, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)  # so that the past matters
    training, objective = RecurrentTraining(model, 2), WindowObjective(0.0, 0.0)

    def loss(window: Window) -> float:
        return objective(training, window).total.item()

    def total(base: int) -> float:
        return sum(loss(window) for window in WindowSource(text, base, None).batches(0))

    whole = total(20)
    assert total(20) == pytest.approx(whole) == pytest.approx(total(3), rel=1e-5)
    source = WindowSource(text, 10, None).batches(0)
    loss(source[0])
    assert loss(source[1]) != pytest.approx(loss(source[1]), rel=1e-4)
    assert not any(part.requires_grad for state in training.carried.states() for part in state)


def test_carried_states_keep_their_layers() -> None:
    model = RecurrentLm(replace(TINY, kind="gru_modified", layers=3))
    carried = Carried(model.stack.first_states(2))
    states = tuple(tuple(torch.rand_like(part) for part in state) for state in model.stack.first_states(2))
    carried.keep(states)
    for ours, theirs in zip(carried.states(), states, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_perplexity_is_that_of_reading_in_one_go() -> None:
    model, text = tiny_model().eval(), torch.randint(40, (450, 2))
    with torch.no_grad():
        logits = model.output(model.read(text[:-1]).outputs)
        wanted = functional.cross_entropy(logits.flatten(0, 1), text[1:].flatten()).exp()
    assert perplexity(model, text) == pytest.approx(float(wanted), rel=1e-4)
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    assert perplexity(model, text) == pytest.approx(40, rel=1e-5)


def perplexities(found: Mapping[str, Judged]) -> dict[str, float]:
    return {name: judged.perplexity for name, judged in found.items()}


def test_words_that_are_not_known_are_told(tmp_path: Path, text: Path) -> None:
    """A text of <unk> alone is easy to guess: its perplexity would look good."""
    run = tmp_path / "run"
    train_recurrent(recipe(4), text, run)
    other = tmp_path / "other.txt"
    other.write_text("白 日 依 山 尽\n" * 20, encoding="utf-8")
    with pytest.raises(UserError, match=r"other.txt: the model knows no word of this text.* cut by spaces"):
        measure_text(run, other)
    other.write_text("the 白 日 dog\n" * 20, encoding="utf-8")
    assert measure_text(run, other)["text"].unknown == 0.5


def test_one_file_is_judged_by_what_was_held_out_and_another_whole(tmp_path: Path, text: Path) -> None:
    run, whole = tmp_path / "run", text / "train.txt"
    history = train_recurrent(recipe(4), whole, run)
    held_out = measure_text(run, whole)
    assert perplexities(held_out) == pytest.approx(
        {"valid": history.validations[-1].metrics["perplexity"]}, rel=1e-4
    )
    copy = tmp_path / "copy.txt"
    copy.write_bytes(whole.read_bytes())
    assert measure_text(run, copy) == held_out
    copy.write_text("\n".join(SENTENCES * 2), encoding="utf-8")
    model, words = load_recurrent(run), Words.load(run / "best")
    expected = perplexity(model, judged_streams(words.stream(SENTENCES * 2)))
    assert perplexities(measure_text(run, copy)) == {"text": pytest.approx(expected)}
    train_recurrent(recipe(4), text, tmp_path / "parts")
    assert list(measure_text(tmp_path / "parts", text / "valid.txt")) == ["text"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no part valid or test to judge on"):
        measure_text(run, tmp_path / "empty")


def test_several_processes_are_refused(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that are dealt out in turn would go on from states of other places."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="several processes cannot share them"):
        train_recurrent(recipe(), text, tmp_path / "run")


def test_a_run_is_a_model_folder_and_a_parser(tmp_path: Path, text: Path) -> None:
    run = tmp_path / "run"
    history = train_recurrent(recipe(60), text, run)
    measured = [record.metrics["perplexity"] for record in history.validations]
    assert measured[-1] < measured[0] < 40
    assert history.validations[-1].metrics["loss"] == pytest.approx(math.log(measured[-1]))
    model, words = load_recurrent(run), Words.load(run / "best")
    assert perplexity(model, streams(words.stream(SENTENCES * 2), 10)) == pytest.approx(
        min(measured), rel=1e-4
    )
    assert perplexities(measure_text(run, text)) == pytest.approx({"valid": min(measured)}, rel=1e-4)
    (text / "test.txt").write_text(SENTENCES[0], encoding="utf-8")
    assert list(measure_text(run, text)) == ["valid", "test"]
    parser = load_parser(run)
    tree = parser.parse("The dog sees a unicorn")
    assert tree.is_binary and tree.words == ("The", "dog", "sees", "a", "unicorn")
    with pytest.raises(UserError, match="already holds a run"):
        train_recurrent(recipe(), text, run)
    with pytest.raises(UserError, match=r"other choices \(recipe.rows 2 there, 3 now"):
        train_recurrent(replace(recipe(60), rows=3), text, run, resume=True)


def test_a_run_that_was_cut_in_an_epoch_goes_on_bit_for_bit(tmp_path: Path, text: Path) -> None:
    """Also the carried states: update 3 of an epoch of many begins with what update 2 left."""
    train_recurrent(recipe(9), text, tmp_path / "whole")
    train_recurrent(recipe(3), text, tmp_path / "cut")
    train_recurrent(recipe(9), text, tmp_path / "cut", resume=True)
    for name in ("last/model.safetensors", "best/model.safetensors"):
        whole, cut = (read_tensors(tmp_path / run / name) for run in ("whole", "cut"))
        assert whole.keys() == cut.keys() and all(torch.equal(cut[key], whole[key]) for key in whole)
    carried = [
        name for name in read_tensors(tmp_path / "whole" / "last/model.safetensors") if "carried" in name
    ]
    assert len(carried) == 4


def test_distances_are_those_of_each_sentence_alone_from_the_layer_that_is_named() -> None:
    words = Words.learn(SENTENCES)
    model = RecurrentLm(replace(TINY, vocabulary_size=len(words), layers=3)).eval()
    sentences = [sentence.split() for sentence in SENTENCES]
    for layer in (None, 0, 1, 2):
        parser = Parser(model, words, layer)
        together = parser.distances(sentences)
        place = 1 if layer is None else layer
        cell = model.stack.layers[place]
        for sentence, depths in zip(sentences, together, strict=True):
            ids = torch.tensor([words.end_id, *words.ids(sentence), words.end_id])[:, None]
            with torch.no_grad():
                state, found = model.stack.first_states(1), []
                for step in ids:
                    below = model.embedding(step)
                    for number, layer_cell in enumerate(model.stack.layers[: place + 1]):
                        hidden, weight = state[number][0], model.stack.weight(layer_cell)
                        if number == place:
                            logits = (cell.input(below) + hidden @ weight.T)[:, : 2 * cell.levels]
                            found.append(float(1 - cell.master_gates(logits)[0].mean()))
                        new = layer_cell.advance(layer_cell.input(below), state[number], weight)
                        state = (*state[:number], new, *state[number + 1 :])
                        below = new[0]
            assert depths == pytest.approx(found[1:-1], abs=1e-5)


def test_trees_are_those_of_the_distances_and_are_scored() -> None:
    words = Words.learn(SENTENCES)
    parser = Parser(RecurrentLm(replace(TINY, vocabulary_size=len(words))).eval(), words)
    sentences = [sentence.split() for sentence in SENTENCES]
    trees = parser.parse_all(sentences)
    assert trees == [
        tree_of(words, depths) for words, depths in zip(sentences, parser.distances(sentences), strict=True)
    ]
    depths = parser.distances(sentences)
    parser.model.train()
    assert parser.distances(sentences) == depths and parser.model.training, (
        "nothing is dropped while trees are read"
    )
    scores = score_parser(parser, trees)
    assert scores["counted"]["model"].corpus == 100 == scores["counted"]["upper bound"].corpus
    assert "4 sentences" in score_table(parser, trees) and "right" in score_table(parser, trees)
    assert scores["counted"]["by chance"] == unlabelled_f1(
        trees, [by_chance(tree.words, "paper") for tree in trees]
    )
    assert "0.0% of all words unknown" in score_table(parser, trees)
    strange = [left(["a", "unicorn"]), left(["one", "two"])]
    assert "75.0% of all words unknown" in score_table(parser, strange)
    with pytest.raises(UserError, match="knows no word of the treebank"):
        score_table(parser, strange[1:])


def test_what_cannot_be_parsed_is_refused(tmp_path: Path, text: Path) -> None:
    words = Words.learn(SENTENCES)
    model = RecurrentLm(replace(TINY, vocabulary_size=len(words)))
    with pytest.raises(UserError, match="layer: expected 0 to 1, got 2"):
        Parser(model, words, 2)
    with pytest.raises(UserError, match="rule: expected one of paper, unbiased"):
        Parser(model, words, rule="mine")
    with pytest.raises(UserError, match="this model is of the kind lstm"):
        Parser(RecurrentLm(replace(TINY, vocabulary_size=len(words), kind="lstm")), words)
    with pytest.raises(UserError, match="a sentence with words"):
        Parser(model, words).parse("  ")
    with pytest.raises(UserError, match="no such run folder"):
        load_parser(tmp_path / "nothing")
    for changes, message in (
        ({"window": 0}, "window: expected at least 1"),
        ({"temporal": -1.0}, "temporal: expected a strength"),
        ({"segment": "words"}, "segment: expected one of"),
    ):
        with pytest.raises(UserError, match=message):
            train_recurrent(replace(recipe(), **changes), text, tmp_path / "other")
