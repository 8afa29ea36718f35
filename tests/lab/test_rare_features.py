"""First steps in closed form, and a table of words that a rule learns."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.lab import run_experiment
from hanformer.lab.rare_features import SEEN, Options, first_steps, learn

ARRIVALS = (1, 3, 50, 400)


def adam(update: int) -> float:
    return 0.1 / (1 - 0.9**update) * math.sqrt((1 - 0.999**update) / 0.001)


def adax(update: int) -> float:
    return 0.1 * math.sqrt(math.expm1(update * math.log1p(1e-4)) / 1e-4)


def test_first_steps_are_those_of_the_formulas() -> None:
    assert first_steps("adamw", ARRIVALS) == pytest.approx([adam(update) for update in ARRIVALS], rel=1e-5)
    assert first_steps("adax", ARRIVALS) == pytest.approx([adax(update) for update in ARRIVALS], rel=1e-5)
    assert first_steps("adafactor", ARRIVALS) == pytest.approx([1.0] * 4, rel=1e-6)
    assert adax(100_000) == pytest.approx(1.48e3, rel=3e-3) and adam(100_000) == pytest.approx(
        3.162, rel=1e-3
    )


def test_a_table_is_learned() -> None:
    small = Options(tokens=40, steps=300, rate=0.1)
    found, untrained = learn("adamw", small), learn("adamw", Options(tokens=40, steps=1, rate=0.1))
    assert 0 < found.excess < 0.1 < untrained.excess
    assert set(found.lengths) <= set(SEEN) and 0.8 < found.lengths["more"] < 1.2


def test_the_page(tmp_path: Path) -> None:
    changes = {"tokens": "30", "steps": "5", "arrivals": "1,4", "rules": "adamw,lion"}
    report = run_experiment("rare-features", tmp_path, changes)
    assert [row[0] for row in report.tables[0].rows] == ["adamw", "lion"]
    assert (tmp_path / "report.html").exists() and (tmp_path / "rare_features.svg").exists()


@pytest.mark.parametrize(
    "changes",
    [{"rules": "sgd"}, {"arrivals": "0"}, {"tokens": "3"}, {"rate": "0"}, {"steps": "0"}, {"rules": ""}],
)
def test_senseless_options(changes: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UserError):
        run_experiment("rare-features", tmp_path, changes)
