"""The benchmark of decoding that stops runs, and tells what it should."""

from __future__ import annotations

import re

import pytest

from benchmarks.stopping import main
from hanformer.errors import UserError

SMALL = ["--steps", "2", "--texts", "20", "--prompts", "3", "--longest", "8", "--epsilon", "0.2"]


def test_a_small_run(capsys: pytest.CaptureFixture[str]) -> None:
    main(SMALL)
    told = capsys.readouterr().out
    assert len(re.findall(r"[\d.]+ nats a character", told)) == 3
    rows = [list(map(float, line.split()[-3:])) for line in told.splitlines()[2:] if line.startswith("  ")]
    assert len(rows) == 18 and all(row == sorted(row, reverse=True) for row in rows)
    # An epsilon of 0.2 ends every greedy text within 4 characters.
    assert rows[6][1:] == rows[12][1:] == [0.0, 0.0]


def test_mistakes_are_refused() -> None:
    with pytest.raises(UserError, match="expected --steps"):
        main([*SMALL, "--prompts", "0"])
