"""A file of prompts: in order, complete, and the same wherever it was cut and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.tasks import generation_files
from hanformer.tasks.generation import Writer, open_writer
from hanformer.tasks.generation_files import Job, write_file
from hanformer.tasks.generation_options import GenerationOptions
from tests.similarity.tiny import CHARACTERS, tiny_tokenizer
from tests.tasks.writers import tiny_writer, tiny_writer_folder

SAMPLE = GenerationOptions(rule="sample", maximum_length=5, seed=3, results=2, alternatives=1)


def texts(count: int) -> list[str]:
    """Prompts of lengths that a sort by length shuffles."""
    return [CHARACTERS[number % 11 :][: 1 + number * 7 % 5] for number in range(count)]


def job(prompts: list[str], options: GenerationOptions = SAMPLE) -> Job:
    return Job(Writer(tiny_writer("lm"), tiny_tokenizer(), options), prompts, 2, {"model": "tiny"})


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_files, "BATCHES_TOGETHER", 2)


def test_lines_are_what_the_writer_gives_in_order(tmp_path: Path) -> None:
    prompts, told = texts(7), []
    assert write_file(tmp_path / "a.jsonl", job(prompts), told.append) == (0, 0)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    expected = job(prompts).writer.write(prompts)
    assert [row["prompt"] for row in rows] == prompts and sum(told) == 7
    for row, results in zip(rows, expected, strict=True):
        assert [found["text"] for found in row["results"]] == [each.text for each in results]
        assert [found["stopped"] for found in row["results"]] == [each.stopped for each in results]
        assert [len(found["tokens"]) for found in row["results"]] == [len(each.trace) for each in results]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]


def test_cut_at_any_byte_and_taken_up_it_is_the_same(tmp_path: Path) -> None:
    plain = replace(SAMPLE, results=1, alternatives=None, maximum_length=2)
    work = job(texts(7), plain)
    write_file(tmp_path / "whole.jsonl", work)
    whole = (tmp_path / "whole.jsonl").read_bytes()
    notes = json.dumps(work.plan())
    for cut in (*range(0, len(whole), 23), *range(len(whole) - 3, len(whole) + 1)):
        (tmp_path / "cut.jsonl").write_bytes(whole[:cut])
        (tmp_path / "cut.jsonl.resume.json").write_text(notes, "utf-8")
        before, _ = write_file(tmp_path / "cut.jsonl", work)
        assert before == whole[:cut].count(b"\n") and (tmp_path / "cut.jsonl").read_bytes() == whole
        (tmp_path / "cut.jsonl").unlink()
    (tmp_path / "cut.jsonl.resume.json").write_text(notes, "utf-8")
    assert write_file(tmp_path / "cut.jsonl", work) == (0, 0)


def test_prompts_that_cannot_be_continued_leave_a_line(tmp_path: Path) -> None:
    prompts = ["今天", "", "今天天气" * 20, "气今", "雨"]
    options = GenerationOptions("beam", maximum_length=4, copy_prompt=True, minimum_length=2)
    assert write_file(tmp_path / "a.jsonl", job(prompts, options)) == (0, 3)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == prompts
    told = [row.get("error", "") for row in rows]
    assert "empty" in told[1] and "positions" in told[2]
    assert told[4].startswith("expected an allowed token")
    assert rows[0]["results"][0]["text"] == "今天" and rows[3]["results"][0]["text"] == "气今"


def test_another_job_is_not_taken_up(tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    write_file(out, job(texts(3)))
    with pytest.raises(UserError, match="exists already"):
        write_file(out, job(texts(3)))
    (tmp_path / "a.jsonl.resume.json").write_text(json.dumps(job(texts(3)).plan()), "utf-8")
    with pytest.raises(UserError, match="another options;"):
        write_file(out, job(texts(3), replace(SAMPLE, seed=4)))
    with pytest.raises(UserError, match="another input;"):
        write_file(out, job(texts(4)))
    with pytest.raises(UserError, match="another batch;"):
        write_file(out, replace(job(texts(3)), batch=3))
    (tmp_path / "a.jsonl.resume.json").write_text("{", "utf-8")
    with pytest.raises(UserError, match="remove it"):
        write_file(out, job(texts(3)))


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folder, prompts, out = tiny_writer_folder(tmp_path / "lm"), texts(64), tmp_path / "cut.jsonl"
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in prompts), "utf-8")
    words = [sys.executable, "-m", "hanformer", "generate", str(folder), "--input", str(tmp_path / "in.txt")]
    words += ["--rule", "sample", "--maximum-length", "12", "--batch", "1", "--threads", "1"]
    words += ["--precision", "fp32", "--out", str(out)]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (out.exists() and out.stat().st_size) and running.poll() is None:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    held = out.read_bytes()
    assert 0 < held.count(b"\n") < len(prompts)
    again = subprocess.run(words, capture_output=True, check=True, timeout=120)
    lines = held.count(b"\n")
    assert f"({lines} were there already)" in again.stdout.decode()
    options = GenerationOptions("sample", maximum_length=12)
    whole = Job(open_writer(folder, options), prompts, 1, {})
    write_file(tmp_path / "whole.jsonl", whole)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert out.read_bytes().startswith(held[: held.rfind(b"\n") + 1])
