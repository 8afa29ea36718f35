"""Sequence to sequence from files to written texts: learns to copy and to reverse, resumes, refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from zipfile import ZipFile

import pytest
import torch

import hanformer
from hanformer.data.sequences import Pair, join_pairs
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.models.terminating_files import load_writing
from hanformer.tasks.seq2seq import Seq2SeqRecipe, train
from hanformer.tasks.seq2seq.objectives import objective_of
from hanformer.tasks.seq2seq.pairs import EncodedPairs, PairData, TextPair, open_pairs, read_pairs
from hanformer.tasks.seq2seq.recipe import ReplacementOptions
from hanformer.tasks.seq2seq.service import Seq2SeqService
from hanformer.tasks.seq2seq.training import make_model
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.tasks.stop_head import StopOptions
from hanformer.tasks.text_recipe import VocabularyOptions, make_tokenizer
from hanformer.train.options import TrainOptions
from hanformer.train.runs import read_recipe
from hanformer.train.sizes import Sizes
from hanformer.train.tricks.crossing import cross_pairs, encoded

ALPHABET = "天地玄黄宇宙洪荒"


def words(count: int, seed: int) -> list[TextPair]:
    random = Random(seed)
    texts = ["".join(random.choices(ALPHABET, k=random.randint(1, 5))) for _ in range(count)]
    return [TextPair(text, text[::-1]) for text in texts]


DATA = PairData("pairs", words(400, 0), words(40, 1))
RECIPE = Seq2SeqRecipe(
    sizes=Sizes(hidden_size=48, layers=2, attention_heads=2, intermediate_size=96, dropout=0.0),
    decoder_layers=1,
    vocabulary=VocabularyOptions(minimum_count=1),
    train=TrainOptions(updates=220, learning_rate=8e-3, warm_up=20, log_every=50, precision="fp32"),
    label_smoothing=0.0,
    token_budget=512,
    target_length=16,
)


def short(recipe: Seq2SeqRecipe, updates: int) -> Seq2SeqRecipe:
    return replace(recipe, train=replace(recipe.train, updates=updates, average="none"))


@pytest.mark.parametrize(
    ("architecture", "rate", "made"),
    [("unilm", 8e-3, Transformer), ("encoder_decoder", 4e-3, EncoderDecoder)],
)
def test_it_learns_and_opens_as_a_model(tmp_path: Path, architecture: str, rate: float, made: type) -> None:
    options = replace(RECIPE.train, learning_rate=rate)
    history = train(replace(RECIPE, architecture=architecture, train=options), DATA, tmp_path / "run")
    assert min(record.metrics["loss"] for record in history.validations) < 0.35
    service = open_service(tmp_path / "run", ServingOptions(beams=1, precision="fp32"))
    written = service.predict(["天地", "", "玄黄宇"])
    assert written[0] == "地天" and written[2] == "宇黄玄"
    assert isinstance(written[1], UserError)
    assert isinstance(hanformer.load(tmp_path / "run"), made)
    test = tmp_path / "test.tsv"
    test.write_text("".join(f"{pair.source}\t{pair.target}\n" for pair in words(20, 2)), encoding="utf-8")
    found = open_service(tmp_path / "run", ServingOptions(beams=2, precision="fp32")).evaluate(str(test))
    assert found.figures["bleu"] > 50 and len(found.rows) == 20
    with pytest.raises(UserError, match="without"):
        service.evaluate(str(test), test)


@pytest.mark.parametrize(
    ("architecture", "stop"), [("unilm", "non_monotonic"), ("encoder_decoder", "self_terminating")]
)
def test_it_learns_with_a_head_that_must_stop(tmp_path: Path, architecture: str, stop: str) -> None:
    """Trained, cut and resumed, opened by the service and by every writer, with the head and without."""
    short = replace(
        RECIPE,
        architecture=architecture,
        stop=StopOptions(stop, 0.01),
        train=replace(RECIPE.train, updates=6, schedule="constant"),
    )
    train(short, DATA, tmp_path / "whole")
    train(replace(short, train=replace(short.train, updates=3)), DATA, tmp_path / "cut")
    train(short, DATA, tmp_path / "cut", resume=True)
    for name in ("model.safetensors", "stop.safetensors", "stop.json"):
        whole, cut = ((tmp_path / run / "best" / name).read_bytes() for run in ("whole", "cut"))
        assert whole == cut, name
    assert read_recipe(Seq2SeqRecipe(), tmp_path / "whole" / "run.toml") == short
    model = load_writing(tmp_path / "whole")
    assert isinstance(model, TerminatingTransformer) and not model.counts_prompt
    assert model.stop.termination == short.stop.termination()
    with pytest.warns(UserWarning, match="is left out"):
        assert type(hanformer.load(tmp_path / "whole")) is type(model.transformer)
    service = open_service(tmp_path / "whole", ServingOptions(beams=1, precision="fp32"))
    assert isinstance(service, Seq2SeqService) and isinstance(service.model, TerminatingTransformer)
    assert all(isinstance(text, str) for text in service.predict(["天地", "玄黄宇"]))


def test_with_a_head_it_learns_to_write_and_to_end(tmp_path: Path) -> None:
    train(replace(RECIPE, stop=StopOptions("non_monotonic", 0.01)), DATA, tmp_path / "run")
    sources = [pair.source for pair in words(20, 2)]
    written = open_service(tmp_path / "run", ServingOptions(beams=1, precision="fp32")).predict(sources)
    right = [len(str(text)) == len(source) for text, source in zip(written, sources, strict=True)]
    assert sum(right) >= 16


@pytest.mark.parametrize("architecture", ["unilm", "encoder_decoder"])
def test_the_objective_is_what_decoding_computes(architecture: str) -> None:
    recipe = replace(RECIPE, architecture=architecture, stop=StopOptions("self_terminating", 0.2))
    tokenizer = make_tokenizer(recipe, ALPHABET * 2)
    model = make_model(recipe, tokenizer).double().eval()
    end = tokenizer.vocabulary.sep_id
    pairs = [Pair((2, 7, 8, end), (8, 7, end)), Pair((2, 9, end), (9, end))]
    batch = (join_pairs if architecture == "unilm" else cross_pairs)(pairs)
    loss = objective_of(recipe, 0.0)(model, batch)
    total = 0.0
    for pair in pairs:
        first, state = model.prompt([list(pair.source)])
        rest = model.step(torch.tensor([pair.target[:-1]]), state)[0]
        total -= float(torch.cat([first, rest])[range(len(pair.target)), pair.target].sum())
    assert float(loss.total.detach()) == pytest.approx(total) and float(loss.count) == 5
    if architecture == "encoder_decoder":
        known = encoded(model.transformer, batch)
        assert float(objective_of(recipe, 0.0)(model, known).total.detach()) == pytest.approx(total)


def test_choices_that_contradict_the_head_are_refused(tmp_path: Path) -> None:
    """Not before training begins: choices are set one by one, and smoothing is there by default."""
    chosen = Seq2SeqRecipe().changed({"stop.kind": "non_monotonic", "label_smoothing": "0"})
    chosen.check_together()
    smoothed = replace(RECIPE, stop=chosen.stop, label_smoothing=0.1)
    with pytest.raises(UserError, match="--set label_smoothing=0"):
        train(smoothed, DATA, tmp_path / "run")
    unrolled = replace(
        RECIPE, stop=chosen.stop, tricks=("r_drop:1", "tea_forn:2"), architecture="encoder_decoder"
    )
    with pytest.raises(UserError, match="architecture=unilm alone"):
        train(unrolled, DATA, tmp_path / "run")
    replace(unrolled, architecture="unilm").check_together()
    assert not (tmp_path / "run").exists()


def test_a_cut_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    short = replace(RECIPE, train=replace(RECIPE.train, updates=12, schedule="constant"))
    train(short, DATA, tmp_path / "whole")
    train(replace(short, train=replace(short.train, updates=5)), DATA, tmp_path / "cut")
    train(short, DATA, tmp_path / "cut", resume=True)
    whole, cut = (hanformer.load(tmp_path / name).state_dict() for name in ("whole", "cut"))
    assert all((whole[name] == cut[name]).all() for name in whole)
    with pytest.raises(UserError, match="already holds a run"):
        train(short, DATA, tmp_path / "whole")
    with pytest.raises(UserError, match="label_smoothing"):
        train(replace(short, label_smoothing=0.3), DATA, tmp_path / "whole", resume=True)


def test_a_run_can_be_repeated_from_its_own_recipe(tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        train=replace(RECIPE.train, updates=2),
        tricks=("r_drop:1",),
        replacement=ReplacementOptions(0.5, 0.2, "vocabulary"),
    )
    train(recipe, DATA, tmp_path / "run")
    assert read_recipe(Seq2SeqRecipe(), tmp_path / "run" / "run.toml") == recipe


def test_pairs_are_kept_whole_or_left_out() -> None:
    tokenizer = make_tokenizer(RECIPE, [text for pair in DATA.train for text in pair])
    pairs = EncodedPairs.of(DATA.train, tokenizer, sources=5, targets=16)
    kept = [pair for pair in DATA.train if len(pair[0]) <= 3]
    assert len(pairs) == len(kept) and pairs.left_out == len(DATA.train) - len(kept)
    for index, (source, target, _) in enumerate(kept):
        assert tokenizer.decode(pairs[index].source) == source
        assert tokenizer.decode(pairs[index].target) == target
        assert pairs.lengths()[index] == pairs[index].length


def test_the_encoder_decoder_gets_its_own_layers() -> None:
    tokenizer = make_tokenizer(RECIPE, ALPHABET * 2)
    model = make_model(replace(RECIPE, architecture="encoder_decoder"), tokenizer)
    assert (model.config.layers, model.config.decoder_layers) == (2, 1)


def test_files_are_split(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("".join(f"书\t{pair.source}\t{pair.target}\n" for pair in DATA.train), encoding="utf-8")
    data = open_pairs(path, valid=10, seed=3)
    assert len(data.train) == 390 and len(data.valid) == 10
    assert sorted([*data.train, *data.valid]) == sorted(DATA.train)
    assert open_pairs(path, valid=10, seed=3) == data != open_pairs(path, valid=10, seed=4)
    assert len(open_pairs(path, valid=10, limit=7).train) == 7
    with pytest.raises(UserError, match="400 rows, 400 are held out"):
        open_pairs(path, valid=400)
    path.write_text("a\t \n", encoding="utf-8")
    with pytest.raises(UserError, match="row 1: expected a text that is not empty for source and target"):
        read_pairs(path)


def test_a_zip_keeps_its_parts_apart(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "pairs.zip", "w") as archive:
        for name, said in (("train", "学"), ("valid", "验"), ("test", "考")):
            archive.writestr(f"all/{name}.tsv", f"source\ttarget\n{said}\t{said}{said}\n")
    data = open_pairs(tmp_path / "pairs.zip", valid=10)
    assert (list(data.train), list(data.valid)) == ([TextPair("学", "学学")], [TextPair("验", "验验")])
    train(short(RECIPE, 1), DATA, tmp_path / "run")
    service = open_service(tmp_path / "run", ServingOptions(beams=1, precision="fp32"))
    assert [row["source"] for row in service.evaluate(str(tmp_path / "pairs.zip")).rows] == ["考"]


def test_lowest_layers_stay_frozen(tmp_path: Path) -> None:
    train(short(RECIPE, 1), DATA, tmp_path / "first")
    recipe = short(replace(RECIPE, start_from=str(tmp_path / "first"), freeze=1), 3)
    train(recipe, DATA, tmp_path / "second")
    before, after = (hanformer.load(tmp_path / name).state_dict() for name in ("first", "second"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("stack.blocks.1.") for name in changed)
    assert not any(name.startswith(("embeddings.", "stack.blocks.0.")) for name in changed)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"freeze": 1}, "freeze: expected so many layers of a pretrained model"),
        ({"freeze": -1}, "freeze"),
        ({"architecture": "rnn"}, "architecture"),
        ({"replacement": ReplacementOptions(0.5, 0.3, "world")}, "pool"),
        ({"replacement": ReplacementOptions(0.5), "architecture": "encoder_decoder"}, "unilm"),
        ({"tricks": ("magic",)}, "magic"),
        ({"limit": -1}, "limit"),
        ({"token_budget": 0}, "token_budget"),
        ({"optimizer": "sgdx"}, "sgdx"),
    ],
)
def test_choices_that_contradict_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(RECIPE, **changes)


def test_short_names_reach_their_groups() -> None:
    recipe = RECIPE.changed({"hidden_size": "64", "epochs": "3", "kind": "pieces", "attention": "softmax"})
    assert (recipe.sizes.hidden_size, recipe.train.epochs, recipe.vocabulary.kind) == (64, 3, "pieces")
    with pytest.raises(UserError, match="unknown name 'hidden'"):
        RECIPE.changed({"hidden": "3"})
