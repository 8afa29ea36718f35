"""`hanformer train recurrent` and `hanformer parse` as a user calls them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from hanformer.cli import app
from hanformer.errors import UserError

SENTENCES = ("a cat sees a dog", "the dog sees the cat", "a bird sings")
SMALL = ("embedding_size=8", "hidden_size=8", "chunk_size=2", "layers=2")


def ask(*arguments: object) -> str:
    result = CliRunner().invoke(
        app, [*map(str, arguments), "--threads", "1", "--device", "cpu"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("\n".join(SENTENCES * 8), encoding="utf-8")
    choices = [f"--set=model.{choice}" for choice in SMALL] + ["--set=rows=2", "--set=train.updates=3"]
    told = ask("train", "recurrent", "--data", folder / "text.txt", "--out", folder / "run", *choices)
    assert "perplexity: valid " in told and "hanformer parse --model" in told
    return folder / "run"


def test_trees_in_the_terminal_and_as_a_picture(run: Path, tmp_path: Path) -> None:
    told = ask("parse", "--model", run, "the cat sings", "--svg", tmp_path / "tree.svg")
    assert [line.split()[-1] for line in told.strip().split("\n")] == ["the", "cat", "sings"]
    words = ElementTree.parse(tmp_path / "tree.svg").getroot().iter("{http://www.w3.org/2000/svg}text")
    assert [word.text for word in words] == ["the", "cat", "sings"]
    told = ask(
        "parse", "--model", run, "a dog sees", "a cat", "--brackets", "--layer", 0, "--rule", "unbiased"
    )
    assert told.split("\n")[1] == "(a cat)" and told.startswith("(")


def test_words_that_the_model_does_not_know_are_named(run: Path) -> None:
    assert "note: the model does not know cat., unicorn" in ask(
        "parse", "--model", run, "the cat. sees a unicorn"
    )


def test_what_comes_next_is_something_that_the_run_can_do(run: Path) -> None:
    choices = [f"--set=model.{choice}" for choice in (*SMALL, "kind=gru")] + [
        "--set=rows=2",
        "--set=train.updates=1",
    ]
    out = run.parent / "gru"
    told = ask("train", "recurrent", "--data", run.parent / "text.txt", "--out", out, *choices)
    assert f"next: hanformer report {out}" in told
    assert "report.html" in CliRunner().invoke(app, ["report", str(out)]).output


def test_a_score_on_a_treebank(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "gold.mrg"
    path.write_text("( (S (NP (DT the) (NN cat)) (VB sings)) ) ( (NN dog) )", encoding="utf-8")
    told = ask("parse", "--model", run, "--treebank", path, "--longest", 10)
    assert "1 sentences" in told and "upper bound   " in told and "100.00 /100.0" in told


def test_mistakes_are_sentences(run: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--model", run), "give a sentence to parse, or --treebank"),
        (("--model", run, "a b", "c d", "--svg", "x.svg"), "--svg draws the tree of one sentence, got 2"),
        (("--model", tmp_path, "a b"), "not a run folder"),
        (("--model", run, "a b", "--layer", "7"), "layer: expected 0 to 1"),
        (("--model", run, "猫看见狗 鸟叫"), "knows no word of '猫看见狗 / 鸟叫'; its text was cut by spaces"),
        (("--model", run, "a cat", "--longest", "5"), "--longest .* --treebank"),
    ):
        with pytest.raises(UserError, match=message):
            ask("parse", *arguments)
    with pytest.raises(UserError, match="unknown name 'size'"):
        ask("train", "recurrent", "--data", tmp_path, "--out", tmp_path / "r", "--set", "model.size=3")
