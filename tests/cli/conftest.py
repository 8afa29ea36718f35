"""How the tests of commands call them: in this process, as a user does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hanformer.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("HANFORMER_TUNE_CPU", "0")
    monkeypatch.setattr("hanformer.runtime._usable_cores", lambda: 1)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["hanformer", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        told = capsys.readouterr()
        return int(stopped.value.code or 0), told.out, told.err

    return call


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """The one line of a refusal."""

    def call(*words: object) -> str:
        code, out, told = run(*words)
        assert code == 2 and not out, told
        assert told.count("\n") == 1 and told.startswith("hanformer: "), told
        return told

    return call
