"""score as a user calls it; every mistake is one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanformer.tasks.scoring import score_texts

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
