"""Every trick of the table, and the words that name them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer.errors import UserError
from hanformer.train.tricks import TRICKS, fgm, r_drop, tricks_named
from tests.harness.tricks import ON_PAIRS, ON_TEXTS, check_trick, classifier, classify, texts

#: Tricks whose perturbation of an example depends on that example alone, and on nothing drawn.
ACCUMULATING = {"fgm", "pgd", "gradient_penalty", "tea_forn"}


@pytest.mark.parametrize("name", TRICKS)
def test_the_checks_of_every_trick(name: str) -> None:
    trick = TRICKS[name]
    bench = ON_PAIRS if name == "tea_forn" else ON_TEXTS
    accumulates, passes = name in ACCUMULATING, trick.forward
    check_trick(trick.make, trick.strength, bench, accumulates=accumulates, passes=passes)


@pytest.mark.parametrize("name", [name for name in TRICKS if name != "mixup"])
def test_every_trick_that_is_not_for_classes_trains_a_writer(name: str) -> None:
    trick = TRICKS[name]
    accumulates = name in ACCUMULATING
    check_trick(trick.make, trick.strength, ON_PAIRS, accumulates=accumulates, passes=trick.forward)


@pytest.mark.parametrize("name", TRICKS)
def test_the_page_names_every_trick_with_its_default_and_its_passes(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1
    trick, cells = TRICKS[name], [cell.strip() for cell in rows[0]]
    passes = "N, N" if name == "tea_forn" else f"{trick.forward}, {trick.backward}"
    assert cells[3].removeprefix("N = ") == f"{trick.strength:g}" and cells[4].startswith(passes)


def test_words_stack_with_the_first_outermost() -> None:
    model, batch = classifier(dropout=0.2), texts()
    totals = []
    for objective in (
        tricks_named(["r_drop:4", "fgm:0.3"])(classify),
        r_drop(fgm(classify, 0.3), 4.0),
        fgm(r_drop(classify, 4.0), 0.3),
    ):
        torch.manual_seed(5)
        totals.append(objective(model, batch).total.item())
    assert totals[0] == totals[1] != totals[2]


def test_a_word_alone_has_the_default_strength() -> None:
    model, batch = classifier(), texts()
    assert tricks_named(["fgm"])(classify)(model, batch).total == fgm(classify, 0.1)(model, batch).total
    assert tricks_named([])(classify) is classify and tricks_named(["fgm:0", "vat:0"])(classify) is classify


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("fmg", "expected one of noise, .*fgm.*got 'fmg'"),
        ("", "expected one of"),
        ("fgm:", "after fgm: expected a number, got ''"),
        ("fgm:strong", "expected a number, got 'strong'"),
        ("fgm:-1", "strength of 0 or more, got -1"),
        ("vat:nan", "strength of 0 or more"),
        ("tea_forn:1.5", "whole number of passes, got 1.5"),
        ("tea_forn:inf", "whole number of passes"),
        ("tea_forn:-1", "0 or more, got -1"),
    ],
)
def test_other_words_are_refused_at_once(word: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        tricks_named([word])
