"""Pretraining from text to a model: it learns, goes on where it was cut, fills masks, continues text, refuses."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import hanformer
from hanformer.cli import app
from hanformer.data.sequences import SequenceBatch
from hanformer.errors import UserError
from hanformer.mechanisms import Local, Softmax
from hanformer.models import Transformer
from hanformer.models.terminating_files import load_writing
from hanformer.nn.functional.packing import Layout
from hanformer.tasks.pretrain import PretrainRecipe, train
from hanformer.tasks.pretrain.corpus import open_corpus
from hanformer.tasks.pretrain.recipe import MaskOptions, TextOptions
from hanformer.tasks.pretrain.training import starting_model, starting_tokenizer
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.tasks.stop_head import StopOptions, logits_at
from hanformer.tasks.text_recipe import VocabularyOptions
from hanformer.train.options import TrainOptions
from hanformer.train.runs import read_recipe
from hanformer.train.sizes import Sizes

#: What is said again and again, and so can be learned in seconds.
LINES = ("天地玄黄，宇宙洪荒。", "日月盈昃，辰宿列张。", "寒来暑往，秋收冬藏。", "云腾致雨，露结为霜。")
RECIPE = PretrainRecipe(
    sizes=Sizes(hidden_size=32, layers=1, attention_heads=2, intermediate_size=64, dropout=0.0),
    vocabulary=VocabularyOptions(size=300, minimum_count=1),
    text=TextOptions(documents="line"),
    mask=MaskOptions(words="none"),
    train=TrainOptions(updates=160, learning_rate=2e-2, warm_up=10, log_every=50, precision="fp32"),
    optimizer="muon",
    token_budget=400,
    maximum_length=16,
    valid=20,
)
PLAIN = ServingOptions(beams=1, precision="fp32")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES * 25), encoding="utf-8")
    return path


def test_a_masked_model_fills_masks(tmp_path: Path, text: Path) -> None:
    history = train(RECIPE, open_corpus(text), tmp_path / "run")
    assert history.validations[-1].metrics["accuracy"] > 0.7
    service = open_service(tmp_path / "run", PLAIN)
    filled = service.predict(["天地玄[MASK]，宇宙[MASK]荒。", "没有"])
    assert filled[0] == LINES[0] and isinstance(filled[1], UserError)
    found = service.evaluate(str(text))
    assert found.figures["accuracy"] > 0.7 and set(found.figures) == {"loss", "accuracy"}
    assert found.figures == service.evaluate(str(text)).figures  # the same masks every time
    assert "100 rows, 1,000 tokens" in found.text
    with pytest.raises(UserError, match="without"):
        service.evaluate(str(text), text)
    model, tokenizer = hanformer.load(tmp_path / "run"), hanformer.load_tokenizer(tmp_path / "run")
    (best, *_), *_ = hanformer.fill_mask(model, tokenizer, "寒来暑往，秋[MASK]冬藏。")
    assert best.token == "收"


def test_a_causal_model_continues(tmp_path: Path, text: Path) -> None:
    recipe = replace(RECIPE, objective="lm", train=replace(RECIPE.train, updates=70))
    train(recipe, open_corpus(text), tmp_path / "run")
    service = open_service(tmp_path / "run", PLAIN)
    assert service.predict(["日月盈"]) == [LINES[1]]
    assert open_service(tmp_path / "run", replace(PLAIN, beams=2)).predict(["寒来"]) == [LINES[2]]
    figures = service.evaluate(str(text)).figures
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"])) and figures["perplexity"] < 2


@pytest.mark.filterwarnings("ignore:.*is left out")
@pytest.mark.parametrize("kind", ["self_terminating", "non_monotonic"])
def test_a_causal_model_learns_with_a_head_that_must_stop(tmp_path: Path, text: Path, kind: str) -> None:
    recipe = replace(
        RECIPE, objective="lm", stop=StopOptions(kind, 0.01), train=replace(RECIPE.train, updates=70)
    )
    train(recipe, open_corpus(text), tmp_path / "run")
    service = open_service(tmp_path / "run", PLAIN)
    assert service.predict(["日月盈"]) == [LINES[1]]
    assert service.evaluate(str(text)).figures["perplexity"] < 2.5
    model, tokenizer = load_writing(tmp_path / "run"), hanformer.load_tokenizer(tmp_path / "run")
    assert model.counts_prompt and isinstance(hanformer.load(tmp_path / "run"), Transformer)
    ids = tokenizer.encode(LINES[0]).ids
    whole = torch.tensor(ids)
    batch = SequenceBatch(whole[:-1], Layout.of([len(ids) - 1]), torch.arange(len(ids) - 1), whole[1:])
    expected = logits_at(model, batch)[4:]
    first, state = model.prompt([ids[:5]])
    found = torch.cat([first, model.step(whole[None, 5:-1], state)[0]])
    torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match="needs objective=lm, got mlm"):
        train(replace(recipe, objective="mlm"), open_corpus(text), tmp_path / "other")


def test_unilm_learns_its_three_kinds(tmp_path: Path, text: Path) -> None:
    recipe = replace(RECIPE, objective="unilm", train=replace(RECIPE.train, updates=150))
    history = train(recipe, open_corpus(text), tmp_path / "run")
    metrics = history.validations[-1].metrics
    assert min(metrics[f"{kind}_accuracy"] for kind in ("mlm", "lm", "seq2seq")) > 0.6
    mean = sum(metrics[f"{kind}_loss"] for kind in ("mlm", "lm", "seq2seq")) / 3
    assert metrics["loss"] == pytest.approx(mean)
    service = open_service(tmp_path / "run", PLAIN)
    assert service.predict(["云腾致"]) == [LINES[3]]
    assert service.evaluate(str(text)).figures["lm_perplexity"] < 3


@pytest.mark.parametrize("objective", ["mlm", "unilm"])
def test_a_cut_run_goes_on_in_the_middle_of_an_epoch(tmp_path: Path, text: Path, objective: str) -> None:
    options = replace(RECIPE.train, updates=9, schedule="constant")
    whole = replace(RECIPE, objective=objective, train=options, token_budget=150)
    part = replace(whole, train=replace(options, updates=4))  # an epoch has 8 batches
    train(whole, open_corpus(text), tmp_path / "whole")
    train(part, open_corpus(text), tmp_path / "cut")
    train(whole, open_corpus(text), tmp_path / "cut", resume=True)
    one, other = (hanformer.load(tmp_path / name).state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_can_be_repeated_from_its_own_recipe(tmp_path: Path, text: Path) -> None:
    recipe = replace(RECIPE, tricks=("r_drop:1",), embedding_size=8, train=replace(RECIPE.train, updates=2))
    train(recipe, open_corpus(text), tmp_path / "run")
    assert read_recipe(PretrainRecipe(), tmp_path / "run" / "run.toml") == recipe
    assert hanformer.load(tmp_path / "run").config.embedding_size == 8
    with pytest.raises(UserError, match="already holds a run"):
        train(recipe, open_corpus(text), tmp_path / "run")


def test_a_run_that_never_began_is_written_anew(tmp_path: Path, text: Path) -> None:
    short = replace(RECIPE, train=replace(RECIPE.train, updates=1))
    train(short, open_corpus(text), tmp_path / "run")
    (tmp_path / "run" / "run.toml").unlink()
    for name in ("best", "last"):
        for file in (tmp_path / "run" / name).iterdir():
            file.unlink()
        (tmp_path / "run" / name).rmdir()
    text.write_text("\n".join(["日月"] * 30), encoding="utf-8")
    train(short, open_corpus(text), tmp_path / "run")
    assert open_service(tmp_path / "run", PLAIN).recipe == short  # type: ignore[attr-defined]
    assert (tmp_path / "run" / "tokens" / "train" / "tokens.i32").stat().st_size == 30 * 2 * 4


def test_training_goes_on_from_a_pretrained_model(tmp_path: Path, text: Path) -> None:
    short = replace(RECIPE, train=replace(RECIPE.train, updates=30))
    first = train(short, open_corpus(text), tmp_path / "first")
    further = replace(
        short,
        start_from=str(tmp_path / "first"),
        freeze=1,
        train=replace(RECIPE.train, updates=3, learning_rate=1e-4),
    )
    second = train(further, open_corpus(text), tmp_path / "second")
    losses = [history.validations[-1].metrics["loss"] for history in (first, second)]
    assert losses[1] == pytest.approx(losses[0], abs=0.1)
    before, after = (hanformer.load(tmp_path / name).state_dict() for name in ("first", "second"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(
        name.startswith("lm_head")
        or "final" in name
        or name.endswith("norm.weight")
        or name.endswith("norm.bias")
        for name in changed
    )


def test_words_are_added_as_wobert_does(tmp_path: Path, text: Path) -> None:
    train(replace(RECIPE, train=replace(RECIPE.train, updates=20)), open_corpus(text), tmp_path / "first")
    recipe = replace(RECIPE, start_from=str(tmp_path / "first"), new_words=5)
    tokenizer = starting_tokenizer(recipe, LINES)
    base = hanformer.load_tokenizer(tmp_path / "first")
    added = tokenizer.vocabulary.tokens[len(base.vocabulary) :]
    assert len(added) == 5 and all(len(word) > 1 for word in added)
    old, new = hanformer.load(tmp_path / "first"), starting_model(recipe, tokenizer)
    for place, word in enumerate(added, start=len(base.vocabulary)):
        pieces = base.encode(word, special_tokens=False).ids
        assert tokenizer.encode(word, special_tokens=False).ids == [place]
        for name in ("embeddings.token.weight", "lm_head.bias"):
            rows = old.state_dict()[name]
            torch.testing.assert_close(new.state_dict()[name][place], rows[pieces].mean(0))
    short = replace(recipe, train=replace(recipe.train, updates=4, schedule="constant"))
    train(short, open_corpus(text), tmp_path / "whole")
    train(replace(short, train=replace(short.train, updates=2)), open_corpus(text), tmp_path / "cut")
    train(short, open_corpus(text), tmp_path / "cut", resume=True)
    one, other = (hanformer.load(tmp_path / name).state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_with_new_words_has_the_attention_that_is_named(tmp_path: Path, text: Path) -> None:
    short = replace(RECIPE, train=replace(RECIPE.train, updates=1)).changed({"attention": "local"})
    train(short, open_corpus(text), tmp_path / "first")
    recipe = replace(RECIPE, start_from=str(tmp_path / "first"), new_words=2)
    tokenizer = starting_tokenizer(recipe, LINES)
    for changes, expected in (({}, Local()), ({"attention": "softmax"}, Softmax())):
        assert starting_model(recipe.changed(changes), tokenizer).config.attention == expected
    with pytest.raises(UserError, match="embedding_size=8 would be of a new one"):
        starting_model(replace(recipe, embedding_size=8), tokenizer)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "gan"}, "objective"),
        ({"mixture": (0.0, 0.0, 0.0)}, "mixture"),
        ({"maximum_length": 3}, "maximum_length"),
        ({"freeze": 1}, "pretrained model"),
        ({"new_words": 9}, "pretrained model"),
        ({"freeze": -1}, "0 or more"),
        ({"tricks": ("magic",)}, "magic"),
    ],
)
def test_choices_that_contradict_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(RECIPE, **changes)


def test_options_that_cannot_be_meant_are_refused() -> None:
    for options in ({"rate": 0.0}, {"masked": 0.9, "random": 0.2}, {"words": "stanza"}):
        with pytest.raises(UserError, match="mask"):
            replace(MaskOptions(), **options)
    with pytest.raises(UserError, match="documents"):
        TextOptions(documents="page")
    with pytest.raises(UserError, match=r"text\.columns"):
        TextOptions(group="1")


def test_too_little_text_is_refused(tmp_path: Path, text: Path) -> None:
    with pytest.raises(UserError, match=r"gives 100 rows, 100 are held out .* such as --set valid=10, or"):
        train(replace(RECIPE, valid=100), open_corpus(text), tmp_path / "run")
    text.write_text("\n \n", encoding="utf-8")
    with pytest.raises(UserError, match=r"text\.txt: no text with a known token"):
        train(RECIPE, open_corpus(text), tmp_path / "run")


def test_rows_longer_than_the_model_are_refused(tmp_path: Path, text: Path) -> None:
    tokenizer = starting_tokenizer(RECIPE, LINES)
    config = RECIPE.shape.config(len(tokenizer.vocabulary), "encoder", 8).changed({"position": "learned"})
    hanformer.save(hanformer.build(config), tmp_path / "short")
    tokenizer.save(tmp_path / "short")
    recipe = replace(RECIPE, start_from=str(tmp_path / "short"))
    with pytest.raises(UserError, match="has 8 positions, maximum_length is 16"):
        train(recipe, open_corpus(text), tmp_path / "run")


def test_from_the_command_line(tmp_path: Path, text: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'objective = "mlm"\nvalid = 5\nmaximum_length = 16\n[text]\ndocuments = "line"\n'
        '[vocabulary]\nminimum_count = 1\n[train]\nupdates = 2\nprecision = "fp32"\n',
        encoding="utf-8",
    )
    sizes = ["--set", "hidden_size=16", "--set", "layers=1", "--set", "intermediate_size=16"]
    run = str(tmp_path / "run")
    start = ["train", "pretrain", "--recipe", str(recipe), "--data", str(text), "--out", run, *sizes]
    done = CliRunner().invoke(app, start)
    assert done.exit_code == 0, done.output
    assert "files: 1 to train on, " in done.output and "kept update 2: validation loss" in done.output
    with pytest.warns(UserWarning, match="this run was trained on it"):
        done = CliRunner().invoke(app, ["evaluate", run, "--data", str(text)])
    assert done.exit_code == 0 and "accuracy" in done.output
    other = tmp_path / "other.txt"
    other.write_text(text.read_text(encoding="utf-8") + "天地玄黄\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["evaluate", run, "--data", str(other), "--json", "--length", "14"])
    assert set(json.loads(done.stdout)) == {"loss", "accuracy"}
    with pytest.raises(UserError, match="--rows shortens the judging of tasks that write texts"):
        open_service(tmp_path / "run", replace(PLAIN, rows=3))
    with pytest.raises(UserError, match="at least 1"):
        replace(PLAIN, rows=0)
    done = CliRunner().invoke(app, ["predict", run, "天地[MASK]黄"])
    assert done.exit_code == 0 and len(done.stdout.strip()) >= 4


def test_rows_of_another_length_are_judged(tmp_path: Path) -> None:
    """Longer rows than in training hold the same text in fewer of them; the positions of the model bound them."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(LINES), encoding="utf-8")
    sizes = replace(RECIPE.sizes, position="learned", max_positions=16)
    short = replace(RECIPE, objective="lm", valid=1, train=replace(RECIPE.train, updates=2))
    recipe = replace(short, sizes=sizes, text=TextOptions())
    train(recipe, open_corpus(text, text), tmp_path / "run")
    said = [
        open_service(tmp_path / "run", replace(PLAIN, length=length)).evaluate(str(text)).text
        for length in (None, 12, 16)
    ]
    assert "4 rows" in said[0] and said[0] == said[2] and "4 rows" in said[1]
    with pytest.raises(UserError, match="positions must lie between 0 and 15"):
        open_service(tmp_path / "run", replace(PLAIN, length=64)).evaluate(str(text))
    extended = replace(recipe, sizes=replace(sizes, hierarchical_positions=0.4))
    train(extended, open_corpus(text, text), tmp_path / "extended")
    found = open_service(tmp_path / "extended", replace(PLAIN, length=64)).evaluate(str(text))
    assert "1 rows" in found.text and math.isfinite(found.figures["loss"])
    with pytest.raises(UserError, match="hierarchical_positions"):
        replace(recipe.shape, position="rotary", hierarchical_positions=0.4).config(100, "lm", 16)


@pytest.mark.parametrize(
    ("changes", "meant"),
    [
        ({"objective": "mlm"}, False),
        ({"objective": "unilm"}, False),
        ({"objective": "unilm", "mixture": (0.0, 1.0, 1.0)}, True),
        ({"objective": "lm"}, True),
    ],
)
def test_what_is_hidden_is_not_unrolled(changes: dict, meant: bool) -> None:
    recipe = replace(RECIPE, tricks=("fgm", "tea_forn:2"), **changes)
    with nullcontext() if meant else pytest.raises(UserError, match="trick tea_forn: hidden tokens"):
        recipe.check_together()
