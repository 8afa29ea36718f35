"""generate and diagnose as a user calls them; every mistake is one line and exit code 2."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hanformer import generate, load, load_tokenizer
from hanformer.models import save
from hanformer.tasks.generation_options import GenerationOptions
from tests.cli.conftest import Run
from tests.similarity.tiny import tiny_encoder, tiny_folder
from tests.tasks.writers import PROMPTS, tiny_writer_folder

SHORT = ("--maximum-length", "8", "--precision", "fp32")


@pytest.fixture
def gpt(tmp_path: Path) -> Path:
    return tiny_writer_folder(tmp_path / "gpt")


def expected(folder: Path, **choices: object) -> list[str]:
    options = GenerationOptions(**{"maximum_length": 8, **choices})  # type: ignore[arg-type]
    results = generate(load(folder), load_tokenizer(folder), PROMPTS, options)
    return [each.text for found in results for each in found]


def test_prompts_as_arguments_and_on_standard_input(
    run: Run, gpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told, error = run("generate", gpt, *PROMPTS, *SHORT)
    assert (code, error) == (0, "") and told.splitlines() == expected(gpt)
    given = "\n\n".join(PROMPTS).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert run("generate", gpt, *SHORT, "--batch", "2")[1] == told


def test_rules_and_scores(run: Run, gpt: Path) -> None:
    beams = ("--rule", "beam", "--beams", "4", "--results", "2", "--length-penalty", "0.6", "--gnmt")
    _, told, _ = run("generate", gpt, *PROMPTS, *SHORT, *beams, "--scores", "--alternatives", "2")
    results = [line.split() for line in told.splitlines() if not line.startswith("    ")]
    assert [line[2] if len(line) > 2 else "" for line in results] == expected(
        gpt, rule="beam", beams=4, results=2, length_penalty=0.6, gnmt=True
    )
    assert all(float(line[0]) < 0 and line[1] in ("end", "length") for line in results)
    traced = [line.split() for line in told.splitlines() if line.startswith("    ")]
    assert len(traced) > 8 and all(len(line) == 7 and line[1].startswith("#") for line in traced)
    _, told, _ = run("generate", gpt, *PROMPTS, *SHORT, "--bias", "好=50", "--force", "0=山", "--json")
    rows = [json.loads(line) for line in told.splitlines()]
    assert [row["prompt"] for row in rows] == PROMPTS
    assert all(row["results"][0]["text"] == "山好好好好好好好" for row in rows)


def test_a_stream_is_the_same_text(run: Run, gpt: Path) -> None:
    for words in ((), ("--rule", "sample", "--seed", "4", "--top-k", "3", "--consistent")):
        _, plain, _ = run("generate", gpt, *PROMPTS, *SHORT, *words)
        assert run("generate", gpt, *PROMPTS, *SHORT, *words, "--stream") == (0, plain, "")


def test_a_stream_shows_the_text_alone(refused: Callable[..., str], gpt: Path, tmp_path: Path) -> None:
    for words in (("--json",), ("--scores",), ("--alternatives", "2")):
        assert f"leave {words[0]} out" in refused("generate", gpt, "今天", *SHORT, "--stream", *words)
    (tmp_path / "in.txt").write_text("今天\n", "utf-8")
    file = ("--input", tmp_path / "in.txt", "--out", tmp_path / "out.jsonl")
    assert "leave --out out" in refused("generate", gpt, *file, *SHORT, "--stream")
    assert not (tmp_path / "out.jsonl").exists()


def test_an_interrupt_ends_a_stream_with_a_whole_line(
    run: Run, gpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hanformer.tasks.generation import Writer

    whole = Writer.stream

    def cut(writer: Writer, prompt: str, *, number: int = 0):
        pieces = whole(writer, prompt, number=number)
        yield next(pieces)
        os.kill(os.getpid(), signal.SIGINT)
        yield from pieces

    monkeypatch.setattr(Writer, "stream", cut)
    code, told, error = run("generate", gpt, "今天", *SHORT, "--stream")
    assert (code, error) == (130, "hanformer: interrupted\n")
    assert told.endswith("\n") and 0 < len(told.strip()) < 8


@pytest.mark.parametrize("kind", ["unilm", "t5"])
def test_a_file_in_its_order(run: Run, tmp_path: Path, kind: str) -> None:
    folder = tiny_writer_folder(tmp_path / kind, kind)
    records = [*({"q": prompt} for prompt in PROMPTS), {"q": ""}]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in records), "utf-8")
    words = ("generate", folder, "--input", source, "--field", "q", "--out", out, *SHORT)
    code, told, error = run(*words)
    assert code == 2 and told == f"{out}: 5 prompts\n"
    assert error == "hanformer: 1 of them have an error instead of results\n"
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["results"][0]["text"] for row in rows[:4]] == expected(folder)
    assert "empty" in rows[4]["error"]


def test_the_reader_may_go_away(gpt: Path) -> None:
    words = [sys.executable, "-m", "hanformer", "generate", str(gpt), *["今天"] * 40, *SHORT, "--stream"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.stderr.read() == b"" and running.wait() in (0, 1)


def test_mistakes_are_one_line(refused: Callable[..., str], gpt: Path, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("今天\n", "utf-8")
    files = ("--input", tmp_path / "in.txt", "--out", tmp_path / "out.jsonl")
    assert "the prompt is empty" in refused("generate", gpt, "", *SHORT)
    assert "positions" in refused("generate", gpt, "今" * 60)
    assert "rule: expected one of" in refused("generate", gpt, "今", "--rule", "astar")
    assert "no meaning with the rule greedy" in refused("generate", gpt, "今", "--beams", "3")
    assert "such as 好=1.5" in refused("generate", gpt, "今", "--bias", "好")
    assert "go together" in refused("generate", gpt, *files[:2])
    assert "not both" in refused("generate", gpt, "今", *files)
    assert "no folder" in refused("generate", gpt, *files[:2], "--out", tmp_path / "none" / "a.jsonl")
    assert "a stream needs" in refused("generate", gpt, "今", *SHORT, "--stream", "--rule", "beam")
    assert "allowed token" in refused("generate", gpt, "今", *SHORT, "--pattern", "雪")
    assert "regular expression" in refused("generate", gpt, "今", *SHORT, "--pattern", "(今")
    assert "no such file" in refused("generate", tmp_path / "none", "今")
    assert "--application" in refused("generate", tiny_folder(tmp_path / "bert"), "今")
    save(tiny_encoder(("lm",), application="lm"), tmp_path / "bare")
    assert "--tokenizer" in refused("generate", tmp_path / "bare", "今")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_masked_model_writes_where_it_is_asked_to(run: Run, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "bert")
    code, told, _ = run("generate", folder, "今天", *SHORT, "--application", "unilm")
    assert code == 0 and told.count("\n") == 1


def test_diagnose_texts_and_files(run: Run, refused: Callable[..., str], tmp_path: Path) -> None:
    code, told, error = run("diagnose", "今天天气今天天气很好", "--gamma", "0.2")
    assert (code, error) == (0, "") and told.splitlines()[1].split()[3:5] == ["1", "10"]
    (tmp_path / "a.txt").write_text("今天天气很好\n今天天气不错\n", "utf-8")
    out = ("--figure", tmp_path / "a.svg", "--report", tmp_path / "a.html")
    tokenizer = tiny_folder(tmp_path / "bert") / "vocab.txt"
    code, told, _ = run("diagnose", tmp_path / "a.txt", *out, "--tokenizer", tokenizer, "--tokens", "3")
    assert code == 0 and "the 3 most frequent tokens" in told
    assert "<svg" in (tmp_path / "a.svg").read_text("utf-8") + (tmp_path / "a.html").read_text("utf-8")
    assert "two tokens" in refused("diagnose", "今")
    assert "tokens" in refused("diagnose", tmp_path / "a.txt", "--tokens", "0")
    assert "kind" in refused("diagnose", "今天", "--kind", "song")
    assert "gamma" in refused("diagnose", "今天", "--gamma", "2")
    assert "name of a picture" in refused("diagnose", "今天", "--figure", tmp_path / "a.odd")
    assert "prompts are for models" in refused("diagnose", "今天", "--kind", "text", "--prompt", "今")


def test_diagnose_a_model(run: Run, refused: Callable[..., str], gpt: Path, tmp_path: Path) -> None:
    short = ("--maximum-length", "6", "--samples", "2", "--precision", "fp32")
    report = tmp_path / "a.html"
    code, told, error = run("diagnose", gpt, "--prompt", "今天", "--prompt", "雨", *short, "--report", report)
    assert code == 0 and "open at 6" in told.splitlines()[0] and error.split()[0] == "greedy"
    assert "Examples" in report.read_text("utf-8")
    assert "--prompt" in refused("diagnose", gpt)
    assert "the model's own table" in told
    for encoder in (tiny_folder(tmp_path / "bert"), "tiny"):
        assert "--application" in refused("diagnose", encoder, "--prompt", "今")


@pytest.mark.parametrize("command", ["generate", "diagnose"])
def test_help_speaks_both_languages(run: Run, command: str) -> None:
    code, told, _ = run(command, "--help")
    assert code == 0 and "Usage" in told and any("\u4e00" <= character <= "\u9fff" for character in told)
