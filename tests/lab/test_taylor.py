"""The experiment on even Taylor polynomials."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer.errors import UserError
from hanformer.lab.taylor import Options, beside_zero, minima, run


def test_report(tmp_path: Path) -> None:
    report = run(tmp_path, Options(order=6))
    assert "-1.59607" in report.text() and "0.149325" in report.text() and len(report.tables[0].rows) == 3
    assert len(report.pictures[0].figure.axes) == 2


def test_minima_fall() -> None:
    values = [value for _, _, value in minima(12)]
    assert values == sorted(values, reverse=True) and min(values) > 0


def test_two_logits() -> None:
    logits = torch.linspace(-20, 20, 101, dtype=torch.float64)
    found = beside_zero(logits, 2)
    # Far away on either side the larger square weighs more: an even polynomial turns round.
    assert (
        float(found[50]) == pytest.approx(0.5)
        and float(found[0]) > 0.5
        and float(found.min()) == pytest.approx(1 / 3, abs=0.01)
    )


@pytest.mark.parametrize("values", [{"order": 3}, {"order": 30}, {"reach": 0.0}])
def test_options(values: dict[str, float]) -> None:
    with pytest.raises(UserError, match="lab taylor"):
        Options(**values)
