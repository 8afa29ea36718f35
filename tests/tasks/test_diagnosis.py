"""Diagnoses of texts and of models, against the metrics called by hand."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from statistics import fmean

import pytest
import torch

from hanformer.errors import UserError
from hanformer.tasks.diagnosis import (
    COMPARED,
    characters,
    diagnose_model,
    diagnose_text,
    kind_of,
    measure,
    model_transitions,
    tokens_of,
)
from hanformer.tasks.diagnosis_report import rows_of, table, write_figure, write_page
from hanformer.tasks.generation import generate_texts
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.prompting import Prompter
from hanformer.theory.repetition import repeated_in_window, repeated_ngrams, repetition_risk
from hanformer.theory.transitions import transitions_of
from tests.similarity.tiny import tiny_tokenizer
from tests.tasks.writers import KINDS, PROMPTS, tiny_writer

TEXTS = ["今天天气 很好", "今天天气不错今天", "雨"]
TOKENIZER = tiny_tokenizer()


def test_texts_are_measured_and_rebalanced() -> None:
    found = diagnose_text(TEXTS, gamma=0.2)
    plain, balanced = found.rows
    cut = [list(text.replace(" ", "")) for text in TEXTS]
    assert (plain.texts, plain.tokens) == (3, 15)
    assert plain.in_window == pytest.approx(fmean(map(repeated_in_window, cut)))
    assert plain.ngrams == pytest.approx(fmean(map(repeated_ngrams, cut)))
    assert plain.risk == repetition_risk(transitions_of(cut).matrix)
    assert balanced.tokens < plain.tokens and balanced.ngrams < plain.ngrams
    assert found.transitions.tokens[0] == "天" and found.transitions.coverage == 1
    by_tokens = diagnose_text(TEXTS, tokens_of(TOKENIZER), most=3, gamma=0.2)
    assert by_tokens.rows[0].tokens == 15 and len(by_tokens.transitions.tokens) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_rules_are_compared(kind: str) -> None:
    model, options = tiny_writer(kind), GenerationOptions(maximum_length=12)
    told: list[str] = []
    found = diagnose_model(model, TOKENIZER, PROMPTS, options, samples=5, seed=3, progress=told.append).rules
    assert told == list(COMPARED) == [each.repetition.name for each in found]
    for each in found:
        name = each.repetition.name
        choices = {**COMPARED[name], "maximum_length": 12}
        if choices["rule"] == "sample":
            choices |= {"seed": 3, "results": 5}
        written = list(chain(*generate_texts(model, TOKENIZER, PROMPTS, GenerationOptions(**choices))))
        assert each.repetition.texts == len(written) == (20 if choices["rule"] == "sample" else 4)
        assert each.mean_length == pytest.approx(fmean(len(text.tokens) for text in written))
        late = [text.stopped != "end" for text in written]
        assert each.lengths[-1] == 12 and each.unfinished[-1] == pytest.approx(fmean(late))
        assert list(each.unfinished) == sorted(each.unfinished, reverse=True)
        texts = [TOKENIZER.vocabulary.tokens_of(text.tokens) for text in written]
        assert each.repetition.ngrams == measure(name, texts).ngrams


def test_a_model_that_always_ends_has_nothing_to_repeat() -> None:
    options = GenerationOptions(maximum_length=4, minimum_length=0, bias={"[SEP]": 999.0})
    found = diagnose_model(tiny_writer("lm"), TOKENIZER, ["今"], options, samples=2)
    assert found.transitions is None
    assert all(each.mean_length == 0 and set(each.unfinished) == {0.0} for each in found.rules)
    assert "0.000" in table(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_models_own_table_is_its_next_step(kind: str) -> None:
    model, tokens = tiny_writer(kind), [5, 7, 9, 11]
    prompts = [[2, 6, 8], [2, 9]]
    found = model_transitions(model, TOKENIZER, prompts, tokens)
    for place, token in enumerate(tokens):
        rows = []
        for prompt in prompts:
            _, state = model.prompt([prompt])
            rows.append(model.step(torch.tensor([[token]]), state)[0, 0].double().softmax(-1)[tokens])
        torch.testing.assert_close(found.matrix[place], sum(rows) / 2, rtol=1e-5, atol=1e-7)
    assert found.tokens == tuple(TOKENIZER.vocabulary.tokens_of(tokens))
    assert found.coverage == pytest.approx(float(found.matrix.sum()) / 4)
    options = GenerationOptions(maximum_length=6)
    read = [Prompter(model, TOKENIZER, options)(prompt) for prompt in PROMPTS]
    table = diagnose_model(model, TOKENIZER, PROMPTS, options, samples=2, most=3).transitions
    assert table is not None
    again = model_transitions(model, TOKENIZER, read, TOKENIZER.vocabulary.ids_of(table.tokens))
    assert len(table.tokens) == 3 and torch.equal(again.matrix, table.matrix)


def test_tables_figures_and_pages(tmp_path: Path) -> None:
    text = diagnose_text(TEXTS)
    model = diagnose_model(
        tiny_writer("lm"), TOKENIZER, ["今"], GenerationOptions(maximum_length=6), samples=2
    )
    for found in (text, model):
        rows = rows_of(found)
        assert len({len(row) for row in rows}) == 1 and len(rows) == 1 + (
            2 if found is text else len(COMPARED)
        )
        lines = table(found).splitlines()
        assert all(line.startswith(row[0]) for line, row in zip(lines, rows, strict=False))
        write_figure(tmp_path / "a.png", found)
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        write_page(tmp_path / "a.html", found, "<title> & 标题")
        page = (tmp_path / "a.html").read_text("utf-8")
        assert "<svg" in page and "&lt;title&gt; &amp; 标题" in page and "<title> &" not in page
        assert all(f"<td>{row[1]}</td>" in page for row in rows[1:])
    assert model.transitions is not None
    measure_of_it = repetition_risk(model.transitions.matrix).measure
    assert f"R {measure_of_it:.4f}, lower" in table(model) and f"R {measure_of_it:.4f}, lower" in page
    with pytest.raises(UserError, match="name of a picture"):
        write_figure(tmp_path / "a.doc", text)


def test_what_a_word_is(tmp_path: Path) -> None:
    for name in ("a.txt", "w.safetensors", "m.ckpt.index"):
        (tmp_path / name).write_bytes(b"")
    for name, kind in (
        ("", "model"),
        ("a.txt", "file"),
        ("w.safetensors", "model"),
        ("m.ckpt", "model"),
    ):
        assert kind_of(str(tmp_path / name)) == kind
    for word in (str(tmp_path / "none"), "none.txt", "./none", ""):
        with pytest.raises(UserError, match="no such file|got nothing"):
            kind_of(word)
    assert kind_of("none") == kind_of("今天.很好") == kind_of("Mr. A and/or B") == "text"
    assert kind_of("今天" * 3000) == kind_of("今\0天") == "text"


def test_mistakes_are_told() -> None:
    assert characters(" a\n今 ") == ["a", "今"]
    with pytest.raises(UserError, match="two tokens"):
        diagnose_text(["今", ""])
    with pytest.raises(UserError, match="gamma"):
        diagnose_text(TEXTS, gamma=0)
    with pytest.raises(UserError, match="no token"):
        measure("nothing", [[]])
    with pytest.raises(UserError, match="prompts"):
        diagnose_model(tiny_writer("lm"), TOKENIZER, [], GenerationOptions())
