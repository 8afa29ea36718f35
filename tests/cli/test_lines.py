"""Standard input as the commands read it."""

from __future__ import annotations

import io

import pytest

from hanformer.cli.lines import typed_lines
from hanformer.errors import UserError


def given(monkeypatch: pytest.MonkeyPatch, raw: bytes, terminal: bool) -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(raw))
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stdin", stream)
    return list(typed_lines("Write."))


@pytest.mark.parametrize("terminal", [False, True])
def test_lines_without_their_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    raw = "\ufeff今天\r\n\n \t\n  天气 \n好".encode()
    assert given(monkeypatch, raw, terminal) == ["今天", "  天气 ", "好"]
    assert capsys.readouterr().err == ("Write.\n" if terminal else "")


def test_the_line_that_is_not_utf8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="line 2 is not UTF-8.*iconv -f GB18030"):
        given(monkeypatch, b"a\n\xff\n", False)
