"""Tagging from files to spans: learns toy words and names, resumes, opens as a service, refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from typer.testing import CliRunner

import hanformer
from hanformer.cli import app
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.tasks.serving import ServingOptions, open_service
from hanformer.tasks.tag import TagRecipe, train
from hanformer.tasks.tag.batches import pack
from hanformer.tasks.tag.data import TagData
from hanformer.tasks.tag.heads import HEADS
from hanformer.tasks.tag.labels import LabelSet
from hanformer.tasks.tag.model import balanced_weights, make_model, tagging_loss
from hanformer.tasks.tag.service import SegmentationService
from hanformer.tasks.tag.spans import TaggedText, TextSpan, of_words
from hanformer.tasks.tag.training import _examples, cutter_of
from hanformer.tasks.text_recipe import VocabularyOptions, make_tokenizer
from hanformer.train.options import TrainOptions
from hanformer.train.runs import read_recipe
from hanformer.train.sizes import Sizes
from hanformer.train.tricks import tricks_named

LEXICON = ["天地", "玄", "黄", "宇宙洪", "荒"]
NAMES = {"PER": ["小明", "大卫"], "LOC": ["北京"]}


def segmented(count: int, seed: int) -> list[TaggedText]:
    random = Random(seed)
    return [
        of_words(random.choices(LEXICON, k=random.randint(1, 6)), f"toy: line {n}")
        for n in range(1, count + 1)
    ]


def named(count: int, seed: int) -> list[TaggedText]:
    random = Random(seed)
    texts = []
    for number in range(1, count + 1):
        text, spans = "", []
        for _ in range(random.randint(1, 4)):
            kind = random.choice(["", "PER", "LOC"])
            piece = random.choice(NAMES.get(kind, ["去了", "和", "看"]))
            spans += [TextSpan(kind, len(text), len(text) + len(piece))] if kind else []
            text += piece
        texts.append(TaggedText(text, tuple(spans), f"toy: line {number}"))
    return texts


WORDS = TagData("toy", segmented(120, 0), segmented(20, 1))
ENTITIES = TagData("toy", [*named(120, 0), TaggedText("小明", (TextSpan("PER", 0, 2),))], named(20, 1))
RECIPE = TagRecipe(
    sizes=Sizes(hidden_size=32, layers=1, attention_heads=2, intermediate_size=64, dropout=0.0),
    vocabulary=VocabularyOptions(minimum_count=1),
    train=TrainOptions(
        updates=60,
        learning_rate=1e-2,
        warm_up=5,
        precision="fp32",
        best_by="f1",
        higher_is_better=True,
        validate_every=30,
    ),
    token_budget=512,
    maximum_length=16,
    overlap=6,
    head_size=16,
)
FAST = ServingOptions(precision="fp32")


@pytest.mark.parametrize("head", HEADS)
def test_words_are_learned_and_texts_of_any_length_are_cut(tmp_path: Path, head: str) -> None:
    history = train(replace(RECIPE, head=head), WORDS, tmp_path / "run")
    assert max(record.metrics["f1"] for record in history.validations) > 0.97
    service = open_service(tmp_path / "run", FAST)
    assert isinstance(service, SegmentationService)
    words = [word for text in segmented(20, 2) for word in text.words]
    assert service.segment(["".join(words)]) == [words]
    assert list(service.predict(["天地玄 黄天地", "", " \n"])) == ["天地 玄 黄 天地", "", ""]
    assert isinstance(hanformer.load(tmp_path / "run"), Transformer)


@pytest.mark.parametrize(
    ("head", "unit"), [("softmax", "pieces"), ("crf", "characters"), ("global_pointer", "characters")]
)
def test_entities_are_learned_with_exact_places(tmp_path: Path, head: str, unit: str) -> None:
    recipe = replace(RECIPE, scheme="entities", head=head, unit=unit, labels="bmes")
    train(recipe, ENTITIES, tmp_path / "run")
    service = open_service(tmp_path / "run", FAST)
    text = "看小明去了北京和大卫" * 4
    answers = [json.loads(str(line)) for line in service.predict([text, ""])]
    assert answers[0]["text"] == text and answers[1] == {"text": "", "entities": []}
    wanted = [("PER", 1, 3), ("LOC", 5, 7), ("PER", 8, 10)]
    moved = [(kind, start + 10 * n, end + 10 * n) for n in range(4) for kind, start, end in wanted]
    assert [(e["type"], e["start"], e["end"]) for e in answers[0]["entities"]] == moved
    assert answers[0]["entities"][0]["text"] == "小明"


def test_a_run_is_evaluated_on_files(tmp_path: Path) -> None:
    train(RECIPE, WORDS, tmp_path / "words")
    test = tmp_path / "test.txt"
    test.write_text("天地  玄  黄\n天地玄  黄\n", encoding="utf-8")
    found = open_service(tmp_path / "words", FAST).evaluate(str(test))
    assert found.figures["recall"] == 4 / 5 and found.figures["oov_rate"] == 1 / 5
    assert found.figures["oov_recall"] == 0 and found.figures["iv_recall"] == 1
    assert found.rows[1] == {"text": "天地玄黄", "words": ["天地玄", "黄"], "found": ["天地", "玄", "黄"]}
    train(replace(RECIPE, scheme="entities"), ENTITIES, tmp_path / "names")
    (tmp_path / "test.jsonl").write_text('{"text": "看小明", "entities": [[1, 3, "PER"], [0, 1, "ORG"]]}\n')
    service = open_service(tmp_path / "names", FAST)
    found = service.evaluate(str(tmp_path / "test.jsonl"))
    assert found.figures == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3}
    assert "ORG" in found.text and "66.67%" in found.text
    with pytest.raises(UserError, match="without"):
        service.evaluate(str(test), test)


def test_nested_entities_are_for_pointers(tmp_path: Path) -> None:
    nested = [TaggedText("北京大学", (TextSpan("LOC", 0, 2), TextSpan("ORG", 0, 4)), "file: line 7")]
    data = TagData("nested", [*nested * 20, *named(60, 0)], nested)
    recipe = replace(RECIPE, scheme="entities")
    with pytest.raises(UserError, match="file: line 7: .* overlap, .*global_pointer"):
        train(recipe, data, tmp_path / "run")
    train(replace(recipe, head="global_pointer"), data, tmp_path / "run")
    answer = json.loads(str(open_service(tmp_path / "run", FAST).predict(["北京大学"])[0]))
    assert [(e["type"], e["end"]) for e in answer["entities"]] == [("LOC", 2), ("ORG", 4)]


def test_a_cut_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    short = replace(RECIPE, train=replace(RECIPE.train, updates=6, schedule="constant"), tricks=("r_drop:1",))
    train(short, WORDS, tmp_path / "whole")
    train(replace(short, train=replace(short.train, updates=3)), WORDS, tmp_path / "cut")
    train(short, WORDS, tmp_path / "cut", resume=True)
    for file in ("model.safetensors", "tagger.safetensors"):
        left, right = ((tmp_path / run / "best" / file).read_bytes() for run in ("whole", "cut"))
        assert left == right
    assert read_recipe(TagRecipe(), tmp_path / "whole" / "run.toml") == short
    with pytest.raises(UserError, match="already holds a run"):
        train(short, WORDS, tmp_path / "whole")
    with pytest.raises(UserError, match="head"):
        train(replace(short, head="memm"), WORDS, tmp_path / "whole", resume=True)


@pytest.mark.parametrize(
    ("head", "trick"),
    [
        *(
            (head, trick)
            for head in ("crf", "global_pointer")
            for trick in ("fgm", "gradient_penalty", "noise")
        ),
        *(("memm", trick) for trick in ("r_drop", "vat", "pgd")),
    ],
)
def test_tricks_wrap_the_objective(head: str, trick: str) -> None:
    recipe = replace(RECIPE, head=head, sizes=replace(RECIPE.sizes, dropout=0.1))
    tokenizer = make_tokenizer(recipe, ["".join(LEXICON)] * 2)
    labels = LabelSet(("word",), "bmes", outside=False)
    model = make_model(recipe, tokenizer, labels)
    batch = pack(_examples(WORDS.train[:4], cutter_of(recipe, tokenizer), labels))
    plain = tagging_loss(model, batch)
    wrapped = tricks_named([trick])(tagging_loss)(model, batch)
    wrapped.total.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert float(wrapped.total.detach()) != float(plain.total.detach()) and wrapped.count == plain.count


def test_pretrained_layers_can_be_kept(tmp_path: Path) -> None:
    two = replace(RECIPE, sizes=replace(RECIPE.sizes, layers=2), train=replace(RECIPE.train, updates=2))
    train(two, WORDS, tmp_path / "first")
    start = str(tmp_path / "first" / "best")
    tuned = replace(two, scheme="entities", start_from=start, freeze=1)
    train(tuned, ENTITIES, tmp_path / "second")
    before, after = (hanformer.load(tmp_path / run).state_dict() for run in ("first", "second"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any("blocks.0." in name or "embeddings" in name for name in changed)
    with pytest.raises(UserError, match="freeze"):
        train(replace(tuned, freeze=3), ENTITIES, tmp_path / "third")


def test_balanced_weights_are_those_of_counts() -> None:
    labels = LabelSet(("LOC", "PER"), "bio")
    recipe = replace(RECIPE, scheme="entities", head="softmax", class_weights="balanced")
    tokenizer = make_tokenizer(recipe, ["小明北京"])

    texts = [TaggedText("小明北京去", (TextSpan("PER", 0, 2),)), TaggedText("小", ())]
    examples = _examples(texts, cutter_of(recipe, tokenizer), labels)
    weights = balanced_weights(recipe, labels, examples)
    assert weights is not None and weights.tolist() == pytest.approx([6 / 20, 1, 1, 6 / 5, 6 / 5])
    model = make_model(recipe, tokenizer, labels, weights)
    assert "tagger.weights" not in model.state_dict()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scheme": "chunks"}, "scheme: expected one of segmentation, entities"),
        ({"head": "lstm"}, "head"),
        ({"labels": "bilou"}, "labels"),
        ({"unit": "bytes"}, "unit"),
        ({"form": "xml"}, "form"),
        ({"join": "dash"}, "join"),
        ({"class_weights": "heavy"}, "class_weights"),
        ({"class_weights": "balanced"}, "CRF"),
        ({"overlap": 14}, "overlap"),
        ({"maximum_length": 1000}, "token_budget"),
        ({"transition_rate": 0.0}, "transition_rate"),
        ({"freeze": -1}, "freeze"),
        ({"tricks": ("mixup",)}, "mixup"),
        ({"tricks": ("r_drop:2",), "head": "global_pointer"}, "distributions"),
        ({"tricks": ("magic",)}, "magic"),
    ],
)
def test_choices_that_contradict_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(RECIPE, **changes)


def test_the_command_trains_and_predicts(tmp_path: Path) -> None:
    data = tmp_path / "train.tsv"
    rows = [
        f"{c}\t{t}\n" for c, t in zip("小明去北京", ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"], strict=True)
    ]
    data.write_text("".join([*rows, "\n"] * 30), encoding="utf-8")
    small = {"hidden_size": 32, "layers": 1, "attention_heads": 2, "updates": 25, "valid": 5, "warm_up": 1}
    small |= {"learning_rate": 0.01, "precision": "fp32"}
    options = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    out = str(tmp_path / "run")
    command = ["train", "tag", "--scheme", "entities", "--head", "memm", "--data", str(data), "--out", out]
    done = CliRunner().invoke(app, [*command, *options, "--device", "cpu", "--threads", "1"])
    assert done.exit_code == 0 and "F1 100.00%" in done.output
    told = CliRunner().invoke(app, ["predict", out, "小明去北京", "--device", "cpu", "--threads", "1"])
    assert '{"type": "LOC", "start": 3, "end": 5, "text": "北京"}' in told.output
