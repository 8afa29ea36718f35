"""The comparison of mechanisms: its task, its count of memory, and a run from beginning to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.lab.attention import SMALL, Options, bytes_kept, encoder, run
from hanformer.lab.masked_text import FIRST, UNKNOWN, cut, judge, learn, read_text
from hanformer.lab.report import write_report
from hanformer.mechanisms import Mechanism
from hanformer.models import build

TINY = Options(
    steps=3, length=16, rows=4, characters=2000, hidden_size=16, layers=1, heads=2, lengths=(8, 16)
)


def test_text_is_generated_or_read(tmp_path: Path) -> None:
    generated = read_text("", 500)
    assert len(generated) == 500 and "\n" in generated and generated == read_text("", 500)
    (tmp_path / "a.txt").write_text("一二三\n四五\n", encoding="utf-8")
    assert read_text(str(tmp_path / "a.txt"), 100) == "一二三\n四五"
    assert read_text(str(tmp_path / "a.txt"), 4) == "一二三"
    with pytest.raises(UserError, match=r"missing\.txt"):
        read_text(str(tmp_path / "missing.txt"), 4)


def test_windows_hold_the_text() -> None:
    text = "".join(chr(0x4E00 + place % 30) for place in range(203))
    cuts = cut(text, 10, vocabulary=20, seed=0)
    assert cuts.vocabulary == 20 and cuts.train.shape == (19, 10) and cuts.valid.shape == (1, 10)
    ids = torch.cat([cuts.train, cuts.valid])
    assert int(ids.max()) < 20 and int(ids.min()) == UNKNOWN and FIRST in ids
    assert torch.equal(cuts.train, cut(text, 10, vocabulary=20, seed=0).train)
    with pytest.raises(UserError, match=r"at least 2,000 characters, got 203"):
        cut(text, 100, vocabulary=20, seed=0)


def test_every_mechanism_can_be_built_with_what_the_lab_asks() -> None:
    assert set(SMALL) <= set(Mechanism.kinds())
    for name in Mechanism.kinds():
        assert build(encoder(TINY, name, 30, 16)).config.attention.name == name


def test_bytes_kept() -> None:
    """tanh keeps its output, a linear layer its input; the same storage counts once, and parameters do not count."""
    model = nn.Linear(4, 4)
    x = torch.randn(3, 4)
    assert bytes_kept(model, lambda: model(x)) == 48  # type: ignore[arg-type]
    assert bytes_kept(model, lambda: model(x).tanh()) == 96  # type: ignore[arg-type]
    assert bytes_kept(model, lambda: model(x) + model(x)) == 48  # type: ignore[arg-type]


def test_learning_learns_and_is_the_same_each_time() -> None:
    text = cut(read_text("", 4000), 16, 200, seed=0)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        model = build(encoder(TINY, "softmax", text.vocabulary, 16))
        before = judge(model, text, rows=4, seed=0)[0]
        found.append(learn(model, text, steps=30, rows=8, rate=1e-2, seed=0))
    assert found[0].loss < before - 0.5 and found[0].accuracy > 0
    assert (found[0].loss, found[0].curve) == (found[1].loss, found[1].curve)


def test_a_run_from_beginning_to_end(tmp_path: Path) -> None:
    options = Options(
        **{**TINY.__dict__, "mechanisms": ("softmax", "synthesizer", "gated_unit"), "repeats": 1}
    )
    report = run(tmp_path, options)
    assert [row[0] for row in report.tables[0].rows] == ["softmax", "synthesizer", "gated_unit"]
    assert report.tables[1].head == ("mechanism", "8", "16")
    page = write_report(tmp_path, report).read_text(encoding="utf-8")
    assert "gated_unit" in page and "<svg" in page
