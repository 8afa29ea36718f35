"""The report of a run: every curve, every choice, one page."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hanformer.cli import app
from hanformer.errors import UserError
from hanformer.lab.run_report import report_run
from hanformer.train.history import HISTORY_FILE
from hanformer.train.options import TrainOptions
from hanformer.train.runs import RunDescription, write_description
from hanformer.train.trainer import Trainer
from tests.train.interrupted_run import options, validate
from tests.train.tiny import TinySource, objective, tiny_model


def _run(folder: Path, chosen: TrainOptions) -> Path:
    write_description(folder, RunDescription("classify", "data/<texts>", {"train": chosen}))
    checked = validate if chosen.validate_every else None
    Trainer(tiny_model(), objective, TinySource(), chosen, validate=checked, run_folder=folder).fit()
    return folder


def test_one_page_holds_everything(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a run", options(updates=12))
    page = report_run(folder / "best")
    text = page.read_text(encoding="utf-8")
    assert page == folder / "report" / "report.html" and text.count("<svg") == 1
    for part in ("classify · a run", "data/&lt;texts&gt;", "12 updates", "recipe.train.average_decay", "0.8"):
        assert part in text
    for curve in ("loss", "learning rate", "gradient norm", "tokens a second"):
        assert f">{curve}</text>" in text
    assert "Validation" in text and "last (update 12)" in text
    assert "http://" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_a_run_without_validation(tmp_path: Path) -> None:
    folder = _run(tmp_path, TrainOptions(updates=3, log_every=1))
    found = CliRunner().invoke(app, ["report", str(folder), "--out", str(tmp_path / "page")])
    assert found.exit_code == 0 and "report.html" in found.output
    assert "Validation ·" not in (tmp_path / "page" / "report.html").read_text(encoding="utf-8")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        report_run(tmp_path)
    write_description(tmp_path, RunDescription("classify", "x", {}))
    with pytest.raises(UserError, match="cannot be read"):
        report_run(tmp_path)
    (tmp_path / HISTORY_FILE).write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="has no record yet"):
        report_run(tmp_path)
