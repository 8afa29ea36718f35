"""What is typed wrongly is told in one line, which names the command whose help would help."""

from __future__ import annotations

from collections.abc import Callable

import pytest


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
