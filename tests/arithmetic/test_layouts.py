"""Both layouts: what they read and write, that grammar and reading back agree, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from hanformer.arithmetic.cleaning import read_equation
from hanformer.arithmetic.expression import evaluate
from hanformer.arithmetic.generated import generate
from hanformer.arithmetic.grammar import Grammar
from hanformer.arithmetic.layouts import LONGEST_TEXT, Noise, ProblemLayout, Reading, grammar_for
from hanformer.arithmetic.normalise import normalise
from hanformer.arithmetic.raw_layout import RawLayout, RawOptions
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.slot_layout import SlotLayout, SlotOptions, find_constants
from hanformer.arithmetic.training import load_layout
from hanformer.errors import UserError

PROBLEMS = generate(132, 0, "train")


def layouts() -> list[ProblemLayout]:
    prefix, infix = SlotOptions(pieces=400), SlotOptions(pieces=400, order="infix")
    return [
        SlotLayout.fit(PROBLEMS, prefix),
        SlotLayout.fit(PROBLEMS, infix),
        RawLayout.fit(PROBLEMS, RawOptions()),
    ]


LAYOUTS = layouts()


def walk(grammar: Grammar, reading: Reading, target: tuple[int, ...]) -> bool:
    """Whether the grammar lets the target through."""
    state = grammar.start(reading.operands, len(target))
    for token in target[:-1]:
        if token not in grammar.allowed(state):
            return False
        state = grammar.advance(state, token)
    return target[-1] in grammar.allowed(state)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["prefix", "infix", "raw"])
def test_targets_pass_their_grammar_and_read_back_to_the_answer(layout: ProblemLayout) -> None:
    written = 0
    readings = [layout.read(problem.text) for problem in PROBLEMS]
    for problem, reading, target in zip(
        PROBLEMS, readings, layout.write_all(PROBLEMS, readings), strict=True
    ):
        if target is None:
            continue
        written += 1
        assert walk(layout.grammar, reading, target), problem
        expression = layout.understand(target[:-1], reading)
        value = evaluate(expression, [number.value for number in reading.numbers])
        assert value == evaluate(read_equation(problem.equation)), problem
        assert max(reading.source + target) < layout.vocabulary_size
    assert written >= 0.8 * len(PROBLEMS)


def test_slots_express_every_generated_problem() -> None:
    layout = LAYOUTS[0]
    targets = layout.write_all(PROBLEMS, [layout.read(problem.text) for problem in PROBLEMS])
    assert all(target is not None for target in targets)


def test_numbers_become_slots_with_their_kind() -> None:
    layout = LAYOUTS[0]
    assert isinstance(layout, SlotLayout)
    reading = layout.read("一根绳子长3.5米，用去(1/4)，又用去20%，还剩1(1/2)米和2米。")
    assert [number.value for number in reading.numbers] == [
        Fraction(7, 2),
        Fraction(1, 4),
        Fraction(1, 5),
        Fraction(3, 2),
        Fraction(2),
    ]
    names = {token: name for name, token in layout._ids.items()}
    marked = [names[token] for token in reading.source if token in names]
    assert marked == [
        *("[CLS]", "[N0]", "[decimal]", "[N1]", "[fraction]", "[N2]", "[percent]"),
        *("[N3]", "[fraction]", "[N4]", "[SEP]"),
    ]


def test_numbers_beyond_the_last_slot_stay_text() -> None:
    layout = SlotLayout.fit(PROBLEMS, SlotOptions(pieces=400, slots=2))
    text = "31个，32个，33个，34个"
    reading = layout.read(text)
    assert [number.text for number in reading.numbers] == ["31", "32"]
    assert layout.write_all([Problem("a", text, "x=33+34", "67")], [reading]) == [None]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["prefix", "infix", "raw"])
def test_a_problem_without_numbers_is_refused(layout: ProblemLayout) -> None:
    with pytest.raises(UserError, match="no number"):
        layout.read("一共有多少？")


@pytest.mark.parametrize("layout", LAYOUTS, ids=["prefix", "infix", "raw"])
def test_varied_sources_keep_the_numbers(layout: ProblemLayout) -> None:
    random = Random(0)
    noise = Noise(piece_dropout=0.3, mask=0.3)
    changed = 0
    for problem in PROBLEMS[:30]:
        reading = layout.read(problem.text)
        assert layout.vary(problem, reading, Noise(0.0, 0.0), random) == reading.source
        varied = layout.vary(problem, reading, noise, random)
        changed += varied != reading.source
        usable = {token for operand in reading.operands.sequences for token in operand}
        assert [t for t in varied if t in usable] == [t for t in reading.source if t in usable]
    assert changed > 25


@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=["prefix", "infix"])
def test_rewritten_targets_have_the_same_value_in_other_writings(layout: SlotLayout) -> None:
    random = Random(0)
    changed = 0
    readings = [layout.read(problem.text) for problem in PROBLEMS]
    for reading, target in zip(readings, layout.write_all(PROBLEMS, readings), strict=True):
        if target is None:
            continue
        written = layout.rewrite(target, random)
        changed += written != target
        assert written[-1] == layout.end
        before, after = layout.understand(target[:-1], reading), layout.understand(written[:-1], reading)
        values = [number.value for number in reading.numbers]
        assert evaluate(after, values) == evaluate(before, values)
        assert normalise(after) == normalise(before)
    assert changed > len(PROBLEMS) / 4


@pytest.mark.parametrize("text", ["", "   ", "\x00\x07\n", "题" * (LONGEST_TEXT + 1), "数" * 10_000])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["prefix", "infix", "raw"])
def test_unreadable_problems_are_refused(layout: ProblemLayout, text: str) -> None:
    with pytest.raises(UserError):
        layout.read(text)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["prefix", "infix", "raw"])
def test_emoji_and_control_characters_are_read(layout: ProblemLayout) -> None:
    reading = layout.read("小明有5个🍎，\x00吃了2个\u202e，还剩几个？")
    assert reading.source[-1] == layout.end


@pytest.mark.parametrize("layout", LAYOUTS, ids=["prefix", "infix", "raw"])
def test_saved_and_loaded_layouts_read_alike(layout: ProblemLayout, tmp_path: Path) -> None:
    layout.save(tmp_path)
    again = load_layout(tmp_path)
    readings = [again.read(problem.text) for problem in PROBLEMS[:20]]
    assert readings == [layout.read(problem.text) for problem in PROBLEMS[:20]]
    assert again.write_all(PROBLEMS[:20], readings) == layout.write_all(PROBLEMS[:20], readings)


def test_broken_layout_files_are_named(tmp_path: Path) -> None:
    LAYOUTS[0].save(tmp_path)
    path = tmp_path / "layout.json"
    good = path.read_text(encoding="utf-8")
    values = json.loads(good)
    foreign = json.dumps({**values, "name": "tree"})
    renamed = json.dumps({**values, "options": {"pieces": 3}})
    for content in (good[: len(good) // 2], "[]", foreign, renamed):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=r"layout\.json"):
            load_layout(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="incomplete"):
        load_layout(tmp_path)


def test_constants_are_those_that_no_slot_explains() -> None:
    circle = Problem("a", "圆的半径是3厘米，面积是多少？", "x=3.14*3*3", "28.26")
    part = Problem("b", "用去(1/4)，还剩几分之几？", "x=1-(1/4)", "(3/4)")
    assert find_constants([circle] * 3 + [part]) == (Fraction(1), Fraction(157, 50))


def test_unknown_order_is_refused() -> None:
    with pytest.raises(UserError, match="prefix, infix"):
        replace(LAYOUTS[0].options, order="postfix")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="prefix or infix"):
        grammar_for("postfix", {"+": 1}, ["+"], 2)
