"""score as a user calls it; every mistake is one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanformer.tasks.generation import Generated
from hanformer.tasks.generation_files import error_line, line
from hanformer.tasks.scoring import score_texts
from tests.similarity.tiny import tiny_tokenizer

WRITTEN, REFERENCES = ["今天天气很好", "", "好好好好"], ["今天天气不错", "我们去公园", "好"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Generated texts as JSON lines, references a line each."""
    written, references = tmp_path / "written.jsonl", tmp_path / "references.txt"
    records = (json.dumps({"text": text}, ensure_ascii=False) for text in WRITTEN)
    written.write_text("\n".join(records), encoding="utf-8")
    references.write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    return written, references


def test_prints_and_writes_the_scores(run, files, tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    code, told, _ = run("score", *files, "--field", "text", "--out", out)
    expected = score_texts(WRITTEN, REFERENCES)
    assert code == 0 and told == f"3 texts\n{expected.table()}\n"
    assert json.loads(out.read_text(encoding="utf-8")) == expected.to_dict()


def test_scores_what_generate_wrote(run, files, tmp_path: Path) -> None:
    lines = [error_line("甲", "the prompt is empty") if not text else written_line(text) for text in WRITTEN]
    (tmp_path / "out.jsonl").write_text("".join(lines), encoding="utf-8")
    code, told, _ = run("score", tmp_path / "out.jsonl", files[1])
    assert code == 0 and told == f"3 texts\n{score_texts(WRITTEN, REFERENCES).table()}\n"
    for other in (
        {"text": "甲"},
        {"prompt": "甲"},
        {"prompt": "甲", "results": []},
        {"prompt": 1, "results": [5]},
    ):
        (tmp_path / "out.jsonl").write_text("".join([*lines, json.dumps(other)]), encoding="utf-8")
        assert "say which field" in run("score", tmp_path / "out.jsonl", files[1])[2]


def written_line(text: str) -> str:
    results = [Generated(each, -1.0, (), "end") for each in (text, "another")]
    return line("甲", results, tiny_tokenizer().vocabulary)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("{1}", "{1}", "--out", "{1}/no/scores.json"), "there is no folder"),
        (("{0}", "{1}"), "say which field"),
        (("{1}", "{0}", "--reference-field", "other"), "other"),
        (("{1}", "{2}"), "got 3 hypotheses and 1 references"),
        (("{1}", "{1}.gone"), "cannot be read"),
    ],
)
def test_mistakes_are_one_line(run, files, tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    short = tmp_path / "short.txt"
    short.write_text("今\n", encoding="utf-8")
    code, out, told = run("score", *(word.format(*files, short) for word in words))
    assert code == 2 and not out and told.startswith("hanformer: ") and told.count("\n") == 1
    assert expected in told
