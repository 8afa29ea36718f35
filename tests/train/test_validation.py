"""Which checkpoint a run keeps, and that what is said of it is what was kept."""

from __future__ import annotations

import math

import pytest

from hanformer.train.checkpoint import Progress
from hanformer.train.history import History, Record
from hanformer.train.options import TrainOptions
from hanformer.train.validation import judge, kept

NAN = math.nan


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"best_by": "loss"}, 3),
        ({"best_by": "score", "higher_is_better": True}, 2),
        ({"best_by": "latest"}, 5),
        ({"best_by": "never"}, 5),
    ],
)
def test_what_is_kept_is_what_was_judged_best(choice: dict[str, object], expected: int) -> None:
    values = [(NAN, 0.1), (2.0, 0.9), (1.0, 0.5), (1.0, 0.9), (3.0, NAN)]
    history = History(
        Record(update, 0.0, 0.0, metrics={"loss": loss, "score": score, "never": NAN})
        for update, (loss, score) in enumerate(values, start=1)
    )
    options = TrainOptions(epochs=1, **choice)  # type: ignore[arg-type]
    assert kept(history, options).update == expected
    if choice["best_by"] != "never":
        progress = Progress()
        for record in history.validations:
            progress.update = record.update
            judge(record.metrics, options, progress)
        assert progress.best_update == expected
