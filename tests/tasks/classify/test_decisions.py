"""From scores to labels, to tables, and to disk and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer.errors import UserError
from hanformer.tasks.classify.decisions import THRESHOLDS_FILE, Above, Highest, decision_of
from hanformer.tasks.classify.labels import LABELS_FILE, ClassNames
from hanformer.tasks.classify.scoring import class_table, confusions, figures_of, report
from hanformer.train.losses.multilabel import count_labels

NAMES = ClassNames(("a", "b", "c"))


def test_the_tuned_threshold_has_the_best_micro_f1(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(60, 3, generator=generator) < 0.3
    scores = targets.float() * 2 + torch.randn(60, 3, generator=generator) - 3
    decision = Above("tuned", 3)
    decision.learn(scores, targets)
    found = count_labels(decision.decide(scores), targets).micro_f1
    tried = [count_labels(scores > float(t), targets).micro_f1 for t in scores.flatten()]
    assert found >= max(tried) and len(set(decision.thresholds.tolist())) == 1
    decision.save(tmp_path)
    again = Above("tuned", 3)
    again.load(tmp_path)
    assert torch.equal(again.thresholds, decision.thresholds)
    each = Above("tuned_each", 3)
    each.learn(scores, targets)
    assert (
        count_labels(each.decide(scores), targets).macro_f1
        >= count_labels(decision.decide(scores), targets).macro_f1
    )
    with pytest.raises(UserError, match="expected 2 thresholds"):
        Above("zero", 2).load(tmp_path)
    (tmp_path / THRESHOLDS_FILE).write_text("[oh")
    with pytest.raises(UserError, match="cannot be read"):
        again.load(tmp_path)


def test_zero_and_highest_learn_nothing() -> None:
    scores = torch.tensor([[-1.0, 0.5, 0.0], [-3.0, -2.0, -1.0]])
    zero = decision_of(True, "auto", False, 3)
    zero.learn(scores, scores < 0)
    assert zero.decide(scores).tolist() == [[False, True, False], [False] * 3]
    assert Highest().decide(scores).tolist() == [[False, True, False], [False, False, True]]


def test_tables_count_what_was_counted_by_hand() -> None:
    targets = torch.eye(3, dtype=torch.bool)[[0, 0, 1, 1]]
    decided = torch.eye(3, dtype=torch.bool)[[0, 1, 1, 1]]
    figures = figures_of(count_labels(decided, targets))
    assert figures["accuracy"] == figures["micro_f1"] == 0.75
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    table = class_table(count_labels(decided, targets), NAMES).splitlines()
    assert table[1].split() == ["2", "100.00%", "50.00%", "66.67%", "a"]
    assert table[3].split() == ["0", "-", "-", "-", "c"]
    assert confusions(decided, targets, NAMES).splitlines()[1].split() == ["1", "1", "0", "a"]
    many = ClassNames(tuple(f"class{number}" for number in range(13)))
    row = torch.eye(13, dtype=torch.bool)
    said = confusions(row[[1, 1, 2]], row[[0, 0, 2]], many).splitlines()
    assert said[1:] == ["      2  class0, class1"]
    assert "true class" not in report(decided, targets, NAMES, many=True)


def test_names_are_ordered_saved_and_looked_up(tmp_path: Path) -> None:
    names = ClassNames.of_labels(["10", "9", "x", "9", "-1"])
    assert names.names == ("-1", "9", "10", "x") and names.number("10", "row 1") == 2
    names.save(tmp_path)
    assert ClassNames.load(tmp_path) == names
    with pytest.raises(UserError, match="row 7: the label '0' is none of the 4 classes"):
        names.number("0", "row 7")
    (tmp_path / "class.txt").write_text("money\nsport\n\n", encoding="utf-8")
    read = ClassNames.read(tmp_path / "class.txt")
    assert (read.number("1", ""), read.number("sport", "")) == (1, 1)
    with pytest.raises(UserError, match="no number from 0 to 1"):
        read.number("2", "row 3")
    with pytest.raises(UserError, match="two or more"):
        ClassNames.of_labels(["1", "1"])
    with pytest.raises(UserError, match="differ, got"):
        ClassNames(("a", "b", "a"))
    assert "1 classes have no training row (c)" in NAMES.complaint_of_empty(NAMES.targets([("a",), ("b",)]))
    assert not NAMES.complaint_of_empty(NAMES.targets([("a", "b"), ("c",)]))
    (tmp_path / LABELS_FILE).write_text("[]")
    with pytest.raises(UserError, match="incomplete"):
        ClassNames.load(tmp_path)
