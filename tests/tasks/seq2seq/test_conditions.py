"""Texts written under conditions: columns, training, what the condition is worth, writing by every way there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from typer.testing import CliRunner

import hanformer
from hanformer.chat.layouts import Alternating
from hanformer.chat.replies import Replier
from hanformer.cli import app
from hanformer.data.sequences import Pair, join_pairs
from hanformer.errors import UserError
from hanformer.models.conditioning import under_condition
from hanformer.tasks.diagnosis import diagnose_model
from hanformer.tasks.generation import generate_texts, open_writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.seq2seq import Seq2SeqRecipe, train
from hanformer.tasks.seq2seq.conditions import check_conditions, conditions_of, likelihoods
from hanformer.tasks.seq2seq.pairs import (
    EncodedPairs,
    PairColumns,
    PairData,
    TextPair,
    open_pairs,
    read_pairs,
)
from hanformer.tasks.seq2seq.training import make_model
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.tasks.stop_head import StopOptions
from hanformer.tasks.text_recipe import VocabularyOptions, make_tokenizer
from hanformer.text.load import load_tokenizer
from hanformer.train.options import TrainOptions
from hanformer.train.sequence import predict_targets
from hanformer.train.sizes import Sizes
from hanformer.train.tricks import tricks_named
from tests.harness.material import random_model, tiny_config

ALPHABET = "天地玄黄宇宙洪荒"
RECIPE = Seq2SeqRecipe(
    sizes=Sizes(hidden_size=48, layers=2, attention_heads=2, intermediate_size=96, dropout=0.0),
    vocabulary=VocabularyOptions(minimum_count=1),
    train=TrainOptions(updates=80, learning_rate=8e-3, warm_up=20, log_every=50, precision="fp32"),
    label_smoothing=0.0,
    condition="task",
    condition_size=64,
    token_budget=512,
    target_length=16,
)


def short(recipe: Seq2SeqRecipe, updates: int) -> Seq2SeqRecipe:
    return replace(recipe, train=replace(recipe.train, updates=updates))


NEXT = str.maketrans(ALPHABET, ALPHABET[1:] + ALPHABET[0])


def pairs(count: int, seed: int) -> list[TextPair]:
    """A sign as it is, or the next of the alphabet; only the condition tells which."""
    random, found = Random(seed), []
    for _ in range(count):
        text = random.choice(ALPHABET)
        found += [TextPair(text, text, "copy"), TextPair(text, text.translate(NEXT), "next")]
    return found


DATA = PairData("pairs", pairs(300, 0), pairs(20, 1))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conditions") / "run"
    train(RECIPE, DATA, folder)
    return folder


# ------------------------------------------------------------------------------------------------- what is learned
def test_the_same_text_is_written_otherwise_under_another_condition(run: Path) -> None:
    service = open_service(run, ServingOptions(beams=1))
    texts = [pair.source for pair in pairs(20, 2)[::2]]
    for name, expected in (("copy", texts), ("next", [text.translate(NEXT) for text in texts])):
        written = service.predict([f"{name}\t{text}" for text in texts])
        assert sum(map(str.__eq__, written, expected)) >= 16
    mixed = service.predict([f"{('copy', 'next')[place % 2]}\t{text}" for place, text in enumerate(texts)])
    alone = [
        service.predict([f"{('copy', 'next')[place % 2]}\t{text}"])[0] for place, text in enumerate(texts)
    ]
    assert list(mixed) == alone


def test_evaluation_tells_what_the_condition_is_worth(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    rows = [f"{pair.source},{pair.target},{pair.condition}" for pair in pairs(30, 3)]
    path.write_text("source,target,task\n" + "\n".join(rows), encoding="utf-8")
    found = open_service(run, ServingOptions(beams=1)).evaluate(str(path))
    assert found.figures["condition_accuracy"] > 0.9 and found.figures["chrf"] > 80
    assert "likeliest under their own condition" in found.text
    assert found.rows[0].keys() == {"source", "target", "condition", "written", "likeliest"}
    path.write_text("source,target,task\n天,地,shout\n玄,黄,copy\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"test.csv: conditions that the training data do not have: shout; they have"
    ):
        open_service(run, ServingOptions()).evaluate(str(path))


def test_the_model_folder_knows_its_conditions_by_name(run: Path) -> None:
    model, tokenizer = hanformer.load(run), load_tokenizer(run / "best")
    assert model.config.conditions == ("copy", "next")
    with pytest.raises(UserError, match=r"writes under a condition: choose one of copy, next"):
        generate_texts(model, tokenizer, ["天地"])
    options = GenerationOptions(maximum_length=8, condition="next")
    one = generate_texts(model, tokenizer, ["天地玄"], options)[0][0]
    folded = generate_texts(
        under_condition(model, "next"), tokenizer, ["天地玄"], replace(options, condition=None)
    )
    opened = open_writer(run, options).write(["天地玄"])[0][0]
    assert one.tokens == folded[0][0].tokens == opened.tokens
    for wrong, said in (("shout", "has learned copy, next"), ("", "has learned copy, next")):
        with pytest.raises(UserError, match=said):
            open_writer(run, replace(options, condition=wrong))


def test_on_the_command_line(run: Path) -> None:
    runner = CliRunner()
    written = runner.invoke(
        app, ["generate", str(run), "天地玄", "--condition", "next", "--maximum-length", "8"]
    )
    assert written.exit_code == 0, written.output
    missing = runner.invoke(app, ["generate", str(run), "天地玄"])
    assert "on the command line --condition" in str(missing.exception)
    wrong = runner.invoke(app, ["predict", str(run), "天地玄"])
    assert wrong.exit_code == 2 and "a condition, a tab and a text" in wrong.output


def test_a_training_that_starts_from_it_without_a_condition_leaves_them_out(
    run: Path, tmp_path: Path
) -> None:
    plain = replace(
        short(RECIPE, 1), condition="", source="source", target="target", start_from=str(run), valid=1
    )
    bare = PairData("pairs", [pair._replace(condition="") for pair in DATA.train], [])
    with pytest.warns(UserWarning, match=r"unexpected \(13\): conditions.weight"):
        train(plain, bare, tmp_path / "plain")
    assert hanformer.load(tmp_path / "plain").config.conditions == ()
    [written] = open_service(tmp_path / "plain", ServingOptions(beams=1)).predict(["天地"])
    assert isinstance(written, str)


def test_conditions_that_are_known_keep_their_vectors_by_name(run: Path, tmp_path: Path) -> None:
    learned = dict(zip(("copy", "next"), hanformer.load(run).conditions.weight, strict=True))
    tokenizer = load_tokenizer(run / "best")
    for names in (("anew", "copy", "next"), ("next", "other")):
        with pytest.warns(UserWarning, match=r"begin anew: (anew|other)$"):
            model = make_model(replace(RECIPE, start_from=str(run)), tokenizer, names)
        vectors = dict(zip(names, model.conditions.weight, strict=True))
        assert model.config.conditions == names
        for name in names:
            if name in learned:
                assert torch.equal(vectors[name], learned[name])
            else:
                assert not any(torch.isclose(vectors[name], old).all() for old in learned.values())


def test_a_diagnosis_is_of_the_model_under_the_condition(run: Path) -> None:
    model, tokenizer = hanformer.load(run), load_tokenizer(run / "best")
    compared = {"greedy": {"rule": "greedy"}}
    options = GenerationOptions(maximum_length=4, condition="next")
    found = diagnose_model(model, tokenizer, ["天"], options, compared=compared)
    plain = replace(options, condition=None)
    folded = diagnose_model(under_condition(model, "next"), tokenizer, ["天"], plain, compared=compared)
    assert found.rules == folded.rules
    torch.testing.assert_close(found.transitions.matrix, folded.transitions.matrix)


def test_what_has_no_conditions_says_so(run: Path, tmp_path: Path) -> None:
    model, tokenizer = hanformer.load(run), load_tokenizer(run / "best")
    for format in ("transformers", "tensorflow"):
        with pytest.raises(UserError, match="no conditional norms; fold a condition"):
            hanformer.save(model, tmp_path / format, format=format)
    with pytest.raises(UserError, match="does not chat: fold one"):
        Replier(model, tokenizer, Alternating(2, 3), GenerationOptions(), 128)


def test_it_goes_on_after_a_cut(run: Path, tmp_path: Path) -> None:
    long = replace(RECIPE, train=replace(RECIPE.train, updates=20, checkpoint_every=10))
    whole = train(long, DATA, tmp_path / "whole")
    train(short(long, 10), DATA, tmp_path / "cut")
    again = train(long, DATA, tmp_path / "cut", resume=True)
    assert again.validations[-1].metrics["loss"] == whole.validations[-1].metrics["loss"]
    models = [hanformer.load(tmp_path / name) for name in ("whole", "cut")]
    assert models[1].config.conditions == ("copy", "next")
    assert torch.equal(*(model.conditions.weight for model in models))


# --------------------------------------------------------------------------------------------- texts without a source
def test_texts_written_from_nothing_but_their_condition(tmp_path: Path) -> None:
    """p(text | condition) of a small world: one word for each condition."""
    words = {"0": "天地玄黄", "1": "宇宙洪荒"}
    data = PairData("words", [TextPair("", words[name], name) for name in "01" * 200], [])
    recipe = replace(RECIPE, source="none", train=replace(RECIPE.train, updates=60))
    train(recipe, data, tmp_path / "run")
    service = open_service(tmp_path / "run", ServingOptions(beams=1))
    assert list(service.predict(["1", "0"])) == [words["1"], words["0"]]
    [refused] = service.predict(["1\t天地"])
    assert isinstance(refused, UserError)
    path = tmp_path / "test.tsv"
    path.write_text("天地玄黄\t0\n宇宙洪荒\t1\n", encoding="utf-8")
    with pytest.raises(UserError, match="there is no column 'task'"):
        service.evaluate(str(path))
    numbered = replace(recipe, target="1", condition="2")
    service.recipe = numbered
    found = service.evaluate(str(path))
    assert found.figures == {"condition_accuracy": 1.0} and "BLEU" not in found.text
    assert (
        CliRunner().invoke(app, ["generate", str(tmp_path / "run"), "", "--condition", "0"]).output.strip()
        == "天地玄黄"
    )


# ---------------------------------------------------------------------------------------------------- to the formula
CONFIG = tiny_config(condition_size=3, conditions=("a", "b", "c"), application="unilm")
PAIRS = [Pair((1, 5, 6, 2), (7, 8, 2), 2), Pair((1, 3, 2), (4, 2), 0), Pair((1, 6, 2), (2,), 1)]


def test_a_packed_batch_is_each_row_under_its_own_condition() -> None:
    model = random_model(CONFIG, ("lm",))
    whole = predict_targets()(model, join_pairs(PAIRS))
    alone = []
    for pair in PAIRS:
        plain = under_condition(model, CONFIG.conditions[pair.condition or 0])
        alone.append(predict_targets()(plain, join_pairs([replace(pair, condition=None)])))
    torch.testing.assert_close(whole.total, torch.stack([loss.total for loss in alone]).sum())
    torch.testing.assert_close(whole.outputs["logits"], torch.cat([loss.outputs["logits"] for loss in alone]))


def test_the_vectors_learn() -> None:
    model = random_model(CONFIG, ("lm",))
    predict_targets()(model, join_pairs(PAIRS[:2])).total.backward()
    gradient = model.conditions.weight.grad
    assert gradient[2].any() and gradient[0].any() and not gradient[1].any()


@pytest.mark.parametrize("trick", ["fgm", "gradient_penalty", "tea_forn", "r_drop"])
def test_tricks_keep_the_condition_in_every_pass(trick: str) -> None:
    """They call the objective again, with other vectors: the condition stands in the batch."""
    model, objective = random_model(CONFIG, ("lm",)).eval(), tricks_named((trick,))(predict_targets())
    alone = []
    for pair in PAIRS:
        plain = under_condition(model, CONFIG.conditions[pair.condition or 0])
        alone.append(objective(plain, join_pairs([replace(pair, condition=None)])).total)
    torch.testing.assert_close(objective(model, join_pairs(PAIRS)).total, torch.stack(alone).sum())


def test_a_text_that_is_longer_than_the_model_is_judged_by_what_it_can_read() -> None:
    tokenizer = make_tokenizer(RECIPE, ALPHABET)
    sizes = {"condition_size": 3, "conditions": ("copy", "next"), "position": "learned", "pad_id": 0}
    model = random_model(RECIPE.shape.config(len(tokenizer.vocabulary), "unilm", 8, sizes), ("lm",)).eval()
    long, cut = ALPHABET * 3, ALPHABET[:7]  # [CLS] [SEP], and 6 signs are read to predict the seventh
    found = likelihoods(model, tokenizer, [TextPair("", long, "copy"), TextPair(long, long, "copy")])
    pair = Pair((2, 3), tuple(tokenizer.encode(cut, special_tokens=False).ids), 0)
    assert found.shape == (2, 2) and found.isfinite().all()
    expected = -predict_targets()(model, join_pairs([pair])).total
    torch.testing.assert_close(found[0, 0], expected, check_dtype=False)


def test_likelihoods_are_sums_of_log_probabilities() -> None:
    data = pairs(3, 5)
    tokenizer = make_tokenizer(RECIPE, ALPHABET)
    model = make_model(RECIPE, tokenizer, ("copy", "next")).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    found = likelihoods(model, tokenizer, data)
    assert found.shape == (6, 2)
    encoded = EncodedPairs.of(data, tokenizer, sources=99, targets=99, conditions=("copy", "next"))
    for place, pair in enumerate(data):
        own = ("copy", "next").index(pair.condition)
        loss = predict_targets()(model, join_pairs([encoded[place]]))
        torch.testing.assert_close(found[place, own], -loss.total)


# ------------------------------------------------------------------------------------------------------------- files
@pytest.mark.parametrize(
    ("name", "text", "columns", "expected"),
    [
        ("a.tsv", "甲\t乙\t0\n", ("1", "2", "3"), TextPair("甲", "乙", "0")),
        ("a.tsv", "甲\t1\n", ("none", "1", "2"), TextPair("", "甲", "1")),
        ("a.csv", "text,label\n甲,好\n", ("none", "", "label"), TextPair("", "甲", "好")),
        ("a.csv", "label,text,summary\n好,甲,乙\n", ("", "", "label"), TextPair("甲", "乙", "好")),
        ("a.csv", "title,question,summary\n好,甲,乙\n", ("", "", "title"), TextPair("甲", "乙", "好")),
        ("a.csv", "text,label,stars\n甲,好,5\n", ("none", "", "stars"), TextPair("", "甲", "5")),
        ("a.jsonl", '{"review": "甲", "stars": 5}\n', ("none", "review", "stars"), TextPair("", "甲", "5")),
        ("a.jsonl", '{"text": "甲", "good": true}\n', ("none", "", "good"), TextPair("", "甲", "true")),
    ],
)
def test_columns(tmp_path: Path, name: str, text: str, columns: Sequence[str], expected: TextPair) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert read_pairs(path, PairColumns(*columns)) == [expected]


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        ("甲\t乙\n", ("1", "2", "3"), "row 1 has 2 columns"),
        (
            "甲\t乙\t \n",
            ("1", "2", "3"),
            "row 1: expected a text that is not empty for source and target and condition",
        ),
        ("甲\t乙\t丙\n", ("", "", "label"), "there is no column 'label'"),
    ],
)
def test_rows_that_lack_a_condition(tmp_path: Path, text: str, columns: Sequence[str], said: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_pairs(path, PairColumns(*columns))


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"source": "none", "condition": ""}, "name its column"),
        ({"condition": "3"}, "give all of them"),
        ({"source": "none", "target": "2", "condition": "2"}, "is the column of a text too"),
        ({"condition": ""}, "the pairs have conditions, the recipe says condition=''"),
        ({"architecture": "encoder_decoder"}, "architecture=unilm"),
        ({"stop": StopOptions("self_terminating")}, "without a head that must stop"),
    ],
)
def test_choices_that_contradict_each_other(choices: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        train(replace(RECIPE, **choices), DATA, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "said"),
    [(["a"] * 4, "all rows have the condition 'a'"), (["a", "b", "c"], "3 conditions among 3 rows")],
)
def test_columns_that_are_no_conditions(names: Sequence[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        conditions_of([TextPair("甲", "乙", name) for name in names], "data")


def test_a_rare_condition_is_learned_and_not_held_out(tmp_path: Path) -> None:
    path = tmp_path / "all.tsv"
    path.write_text(
        "".join(f"甲{row}\t乙\t{'rare' if row == 7 else row % 2}\n" for row in range(40)), encoding="utf-8"
    )
    columns, seen = PairColumns("1", "2", "3"), 0
    for seed in range(8):
        data = open_pairs(path, columns=columns, valid=20, seed=seed)
        assert {pair.condition for pair in data.train} == {"0", "1", "rare"}
        assert len(data.train) + len(data.valid) == 40 and set(data.train).isdisjoint(data.valid)
        seen += len(data.valid) == 19
    assert 0 < seen < 8


def test_held_out_rows_have_conditions_that_are_learned() -> None:
    with pytest.raises(UserError, match=r"\(none\), x; they have a, b. Leave such rows out"):
        check_conditions([TextPair("甲", "乙", name) for name in ("a", "", "x")], ("a", "b"), "data")
    check_conditions([TextPair("甲", "乙")], (), "data")


def test_sizes() -> None:
    with pytest.raises(UserError, match="condition_size: expected at least 1"):
        replace(RECIPE, condition_size=0)
    for wrong in (("a", "a"), ("",), "ab", (1, 2)):
        with pytest.raises(UserError, match="conditions must be a list of names that differ"):
            tiny_config(condition_size=3, conditions=wrong)
    with pytest.raises(UserError, match="say how many"):
        tiny_config(conditions=("a", "b"))
    with pytest.raises(UserError, match="one stack"):
        tiny_config(condition_size=3, conditions=("a", "b"), decoder_layers=2)
