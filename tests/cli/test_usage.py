"""What is typed wrongly is told in one line, which names the command whose help would help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer

from hanformer.cli import app
from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("words", "wrong", "told"),
    [
        (("train", "classify", "--wrong"), "--wrong", "(see hanformer train classify --help)"),
        (("train", "classify", "--data", "x"), "--out", "(see hanformer train classify --help)"),
        (("train", "frobnicate"), "frobnicate", "(see hanformer train --help)"),
        (("data", "check"), "path", "(see hanformer data check --help)"),
        (("generate",), "model", "(see hanformer generate --help)"),
        (("solve", "run", "题", "--beams", "0"), "beams", "(see hanformer solve --help)"),
        (("frobnicate",), "frobnicate", "(see hanformer --help)"),
        (("--wrong",), "--wrong", "(see hanformer --help)"),
    ],
)
def test_the_command_is_named(
    refused: Callable[..., str], words: tuple[str, ...], wrong: str, told: str
) -> None:
    line = refused(*words)
    assert wrong in line.lower() and line.endswith(f" {told}\n")


@pytest.mark.parametrize("words", [(), ("train",), ("data",)])
def test_lists_of_commands_speak_both_languages(run: Run, words: tuple[str, ...]) -> None:
    _, told, _ = run(*words, "--help")
    listed = [line for line in told[told.index("Commands") :].splitlines() if line.startswith("│")]
    entries: list[str] = []
    for line in listed:
        entries += [""] if line[2] != " " else []
        entries[-1] += line
    assert len(entries) >= 3
    for entry in entries:
        assert any("\u4e00" <= character <= "\u9fff" for character in entry), entry


def test_commands_of_all_tasks_say_what_they_take(run: Run) -> None:
    assert "test file" in " ".join(run("evaluate", "--help")[1].replace("│", " ").split())
    assert "tab between" in " ".join(run("predict", "--help")[1].replace("│", " ").split())


def _commands(words: tuple[str, ...], group: Any) -> Iterator[tuple[str, ...]]:
    yield words
    for name, command in getattr(group, "commands", {}).items():
        yield from _commands((*words, name), command)


def test_no_help_is_cut_in_a_terminal_of_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chinese has no blanks to break at: a stretch that is wider than its column ends in an ellipsis."""
    monkeypatch.setenv("COLUMNS", "80")
    every = list(_commands((), typer.main.get_command(app)))
    assert len(every) > 25
    for words in every:
        assert "…" not in run(*words, "--help")[1], words
