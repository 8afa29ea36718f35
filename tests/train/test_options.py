from __future__ import annotations

import json
from typing import Any

import pytest

from hanformer.errors import UserError
from hanformer.train.checkpoint import Progress
from hanformer.train.options import TrainOptions, check_same, to_json
from hanformer.train.plan import complaint_of_average, complaint_of_warm_up, rate_multiplier


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needs an end"),
        ({"updates": 0}, "updates: expected a number above 0, got 0"),
        ({"updates": 1, "learning_rate": float("nan")}, "learning_rate: expected"),
        ({"updates": 1, "warm_up": -1}, "warm_up: expected 0 or more"),
        ({"updates": 1, "schedule": "steps"}, "constant, linear, cosine or piecewise"),
        ({"updates": 1, "schedule": "piecewise"}, "go together"),
        ({"updates": 1, "knots": ((0, 1.0),)}, "go together"),
        ({"updates": 1, "average": "swa"}, "none, ema, last"),
        ({"time_limit": 5.0, "decay_by_time": False}, "needs updates or epochs"),
        ({"updates": 1, "accumulate": 0}, "accumulate"),
    ],
)
def test_senseless_options_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainOptions(**values)


def test_only_what_changes_the_weights_must_be_the_same() -> None:
    saved = json.loads(json.dumps(to_json(TrainOptions(updates=5))))
    check_same(saved, to_json(TrainOptions(updates=9, patience=3, log_every=1)), "run")
    with pytest.raises(UserError, match=r"run: .*accumulate 1 there, 2 now; seed 0 there, 4 now"):
        check_same(saved, to_json(TrainOptions(updates=5, seed=4, accumulate=2)), "run")


def test_rate_by_updates_by_time_and_by_knots() -> None:
    by_updates = TrainOptions(updates=10)
    assert rate_multiplier(by_updates, Progress(update=4), 10) == pytest.approx(0.6)
    both = TrainOptions(updates=10, time_limit=100.0)
    assert rate_multiplier(both, Progress(update=4, seconds=10), 10) == pytest.approx(0.6)
    assert rate_multiplier(both, Progress(update=4, seconds=90), 10) == pytest.approx(0.1)
    guard = TrainOptions(updates=10, time_limit=100.0, decay_by_time=False)
    assert rate_multiplier(guard, Progress(update=4, seconds=90), 10) == pytest.approx(0.6)
    knots = TrainOptions(updates=10, schedule="piecewise", knots=((0, 0.0), (4, 1.0), (8, 0.5)))
    assert [rate_multiplier(knots, Progress(update=u), 10) for u in (0, 2, 4, 6, 9)] == [0, 0.5, 1, 0.75, 0.5]


def test_a_warm_up_of_most_of_the_run_is_told() -> None:
    options = TrainOptions(epochs=1, warm_up=100)
    assert complaint_of_warm_up(options, 50).startswith("warm_up=100 takes more than half of the 50 updates")
    assert "--set train.warm_up=5," in complaint_of_warm_up(options, 50)
    assert "--set train.warm_up=19," in complaint_of_warm_up(options, 199)
    assert not complaint_of_warm_up(options, 200) and not complaint_of_warm_up(options, None)
    assert not complaint_of_warm_up(TrainOptions(epochs=1), 1)
    knots = TrainOptions(epochs=1, warm_up=100, schedule="piecewise", knots=((0, 1.0),))
    assert not complaint_of_warm_up(knots, 50)


def test_an_average_that_never_begins_is_complained_of() -> None:
    options = TrainOptions(updates=50, average="last")
    assert "average_every=100 of 50 updates" in complaint_of_average(options, 50)
    assert complaint_of_average(options, 50).endswith("--set train.average_every=5")
    assert not complaint_of_average(options, 100) and not complaint_of_average(options, None)
    assert not complaint_of_average(TrainOptions(updates=50, average="ema"), 50)
