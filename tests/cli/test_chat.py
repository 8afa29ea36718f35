"""Chat as a user has it: through a pipe, in a terminal, interrupted, saved and opened again; and its training."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hanformer.chat.replies import Replier
from hanformer.cli import main
from tests.chat.conftest import run_folder, talker
from tests.chat.talks import TALKS

__all__ = ["run_folder", "talker"]

Run = Callable[..., tuple[int, str, str]]
GREEDY = ("--rule", "greedy", "--plain", "--precision", "fp32", "--threads", "1")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process over bytes of standard input: exit code, standard output, standard error."""
    monkeypatch.setenv("HANFORMER_TUNE_CPU", "0")

    def call(*words: object, given: str | bytes = "") -> tuple[int, str, str]:
        raw = given.encode() if isinstance(given, str) else given
        monkeypatch.setattr("sys.argv", ["hanformer", *map(str, words)])
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
        with pytest.raises(SystemExit) as stopped:
            main()
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The same in a terminal where these lines are typed; an exception among them is raised there."""
    monkeypatch.setenv("HANFORMER_TUNE_CPU", "0")

    def call(*words: object, lines: list[str | type[BaseException]]) -> tuple[int, str, str]:
        coming = iter(lines)

        def read(shown: str) -> str:
            line = next(coming, EOFError)
            if isinstance(line, str):
                return line
            raise line

        terminal = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("sys.argv", ["hanformer", *map(str, words)])
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr("builtins.input", read)
        with pytest.raises(SystemExit) as stopped:
            main()
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return call


def test_a_pipe_gives_a_reply_a_line(run: Run, run_folder: Path, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    given = f"\ufeff你好\n\n去哪里\n/save {saved}\n"
    assert run("chat", run_folder, *GREEDY, given=given) == (0, "好呀\n去山上\n", f"{saved}: 4 turns\n")
    assert json.loads(saved.read_text("utf-8"))["turns"] == list(TALKS[0])
    code, told, _ = run("chat", run_folder, *GREEDY, "--load", saved, given="/undo\n去哪里\n/quit\n你好\n")
    assert (code, told) == (0, "去山上\n")


def test_generate_says_that_the_run_learned_dialogues(run: Run, run_folder: Path) -> None:
    for folder in (run_folder, run_folder / "best"):
        code, _, said = run("generate", folder, "你好", "--maximum-length", "3")
        assert code == 0 and "warning: " in said and "hanformer chat" in said, said


def test_replies_are_drawn_by_the_seed(run: Run, run_folder: Path) -> None:
    words = ("chat", run_folder, "--temperature", "3", "--precision", "fp32", "--threads", "1")
    given = "你好\n" * 5
    first = run(*words, "--seed", "1", given=given)
    assert first[0] == 0 and first[1].count("\n") == 5
    assert first == run(*words, "--seed", "1", given=given) != run(*words, "--seed", "2", given=given)


@pytest.mark.parametrize(
    ("words", "given", "told"),
    [
        ((), "好" * 50, "shorten it"),
        ((), b"\xff\xfe\n", "standard input: line 1 is not UTF-8"),
        ((), "/dance\n", "unknown command"),
        ((), "/load nothing.json\n", "nothing.json: cannot be read"),
        (("--load", "nothing.json"), "", "nothing.json: cannot be read"),
        (("--rule", "contrastive"), "", "contrastive"),
        (("--layout", "speakers"), "", "was trained with the layout alternating"),
        (("--maximum-length", "32"), "", "leave no room"),
        (("--top-p", "2"), "", "top"),
        (("--beams", "2"), "", "beams"),
    ],
)
def test_mistakes_are_one_line(
    run: Run, run_folder: Path, words: tuple[str, ...], given: str | bytes, told: str
) -> None:
    code, out, error = run("chat", run_folder, "--threads", "1", *words, given=given)
    assert code == 2 and not out and told in error
    assert error.count("\n") == 1 and error.startswith("hanformer: ")


def test_no_run(run: Run, tmp_path: Path) -> None:
    code, _, error = run("chat", tmp_path / "none")
    assert code == 2 and error.count("\n") == 1


def test_a_terminal_goes_on_after_mistakes(typed: Run, run_folder: Path) -> None:
    lines: list = ["你好", "/dance", KeyboardInterrupt, "好" * 50, "//", "去哪里", "/help"]
    code, out, error = typed("chat", run_folder, *GREEDY, lines=lines)
    assert code == 0 and out.splitlines()[0] == "好呀" and len(out.splitlines()) == 4
    assert (
        "unknown command" in error and "shorten it" in error and "/load FILE" in error and "Ctrl-D" in error
    )


def test_an_interrupt_ends_the_reply_alone(
    typed: Run, run_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = Replier.stream

    def cut(replier: Replier, history: tuple[str, ...], *, number: int = 0) -> Iterator[str]:
        for piece in whole(replier, history, number=number):
            yield piece
            if history[-1] == "去哪里":
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Replier, "stream", cut)
    saved = tmp_path / "talk.json"
    lines: list = ["你好", "去哪里", f"/save {saved}", "/quit", "你好"]
    code, out, error = typed("chat", run_folder, *GREEDY, lines=lines)
    assert (code, out) == (0, "好呀\n去\n") and "cut short" in error and "Traceback" not in error
    assert json.loads(saved.read_text("utf-8"))["turns"] == ["你好", "好呀", "去哪里", "去"]


def test_training_by_command(run: Run, tmp_path: Path) -> None:
    data, out = tmp_path / "talks.tsv", tmp_path / "run"
    data.write_text("".join("\t".join(turns) + "\n" for turns in TALKS * 3), "utf-8")
    small = ("hidden_size=16", "layers=1", "attention_heads=2", "updates=2", "valid=2", "minimum_count=1")
    choices = [word for choice in small for word in ("--set", choice)]
    code, told, error = run("train", "chat", "--data", data, "--out", out, *choices, "--threads", "1")
    assert code == 0, error
    assert "7 dialogues to train on, 2 to choose by" in told and f"hanformer chat {out}" in told
    code, told, _ = run("evaluate", out, "--data", data, "--threads", "1")
    assert code == 0 and "perplexity" in told and "not ended" in told
    code, told, _ = run("predict", out, "你好", "--threads", "1")
    assert code == 0 and told.count("\n") == 1
    assert run("train", "chat", "--data", data, "--out", out, *choices)[0] == 2
