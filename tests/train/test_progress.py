from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.train import progress
from hanformer.train.history import History, HistoryFile, Record
from hanformer.train.progress import BarReporter, LineReporter, RemainingTime, clock, describe, reporter_for

TRAINED = Record(20, 0.5, 61.0, loss=1.25, learning_rate=1e-3, gradient_norm=2.0, tokens_per_second=1234.5)
VALIDATED = Record(20, 0.5, 62.0, metrics={"accuracy": 0.75})


def test_description_has_loss_rate_speed_and_metrics() -> None:
    text = describe(TRAINED)
    for part in ("update 20", "epoch 0.50", "1:01", "loss 1.2500", "rate 1.00e-03", "1,234 tokens/s"):
        assert part in text
    assert "accuracy 0.7500" in describe(VALIDATED)


def test_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    remaining = RemainingTime(0.5)
    assert remaining.left(0.5) == "?"
    now = 130.0
    assert remaining.seconds(0.75) == pytest.approx(30.0)
    assert clock(3725) == "1:02:05" and clock(59.6) == "1:00"


def test_lines_are_limited_but_validations_are_not() -> None:
    stream = io.StringIO()
    reporter = LineReporter(stream, every=1000.0)
    reporter.start(0.0)
    for fraction in (0.1, 0.2, 0.3):
        reporter.trained(TRAINED, fraction)
    reporter.validated(VALIDATED, True)
    reporter.note("说明")
    reporter.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(" 10%") and "left" in lines[0]
    assert lines[1].endswith("(kept)") and lines[2] == "说明"


def test_bar_runs_and_shows_the_record() -> None:
    stream = io.StringIO()
    reporter = BarReporter(stream)
    reporter.start(0.0)
    reporter.trained(TRAINED, 0.5)
    reporter.validated(VALIDATED, False)
    reporter.close()
    assert "accuracy 0.7500" in stream.getvalue() and "50%" in stream.getvalue()


def test_lines_where_there_is_no_terminal() -> None:
    assert isinstance(reporter_for(io.StringIO()), LineReporter)


def test_history_file_follows_and_survives_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "run" / "history.jsonl"
    file = HistoryFile(path)
    file.rewrite(History([TRAINED]))
    file.append(VALIDATED)
    assert History.read(path).records == [TRAINED, VALIDATED]
    with open(path, "a", encoding="utf-8") as stream:
        stream.write('{"update": 3')
    history = History.read(path)
    assert history.records == [TRAINED, VALIDATED]
    assert history.training == [TRAINED] and history.validations == [VALIDATED]
    assert "metrics" not in json.loads(path.read_text().splitlines()[0])


def test_history_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        History.read(tmp_path / "none")
    (tmp_path / "bad").write_text("x\n{}\n")
    with pytest.raises(UserError, match="line 1: expected a JSON object"):
        History.read(tmp_path / "bad")
    with pytest.raises(UserError, match="empty"):
        _ = History().last_loss
