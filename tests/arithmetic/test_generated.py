"""Generated word problems: exact, deterministic, and disjoint between splits."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from random import Random
from typing import get_args

import pytest

from hanformer.arithmetic.cleaning import Dropped, clean
from hanformer.arithmetic.expression import evaluate, parse_written
from hanformer.arithmetic.generated import (
    CONSTANTS,
    KINDS,
    Form,
    Kind,
    Question,
    SplitName,
    generate,
    is_reserved,
    kind_named,
    wordings,
)
from hanformer.arithmetic.generated.kinds import exact, written
from hanformer.arithmetic.generated.words import ASIDES, PEOPLE
from hanformer.arithmetic.notation import literal
from hanformer.arithmetic.records import Problem
from hanformer.errors import UserError

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
COUNT = 30 * len(KINDS)
WRITTEN_CONSTANTS = {literal(value) for value in CONSTANTS}
REQUIRED = "一步 鸡兔同笼 盈亏 年龄 植树 牛吃草 利润 行程 相遇 追及 工程 分数 百分数 比例 平均数 归一"
NUMBER = re.compile(r"[0-9]+\([0-9]+/[0-9]+\)|\([0-9]+/[0-9]+\)|[0-9.]+%?")
FIELD = re.compile(r"\{(\w+)\}")


@pytest.fixture(scope="module")
def problems() -> dict[SplitName, list[Problem]]:
    return {split: generate(COUNT, seed=7, split=split) for split in SPLITS}


def everything(problems: dict[SplitName, list[Problem]]) -> list[Problem]:
    return [problem for split in SPLITS for problem in problems[split]]


def asked() -> list[tuple[Kind, Form, Question]]:
    return [(kind, form, question) for kind in KINDS for form in kind.forms for question in form.questions]


def value(text: str) -> Fraction:
    return evaluate(parse_written(text))


def test_constants_are_few() -> None:
    assert {"1", "2", "3", "3.14", "4", "100", "100000"} == WRITTEN_CONSTANTS


def test_the_equation_gives_the_answer(problems: dict[SplitName, list[Problem]]) -> None:
    for problem in everything(problems):
        assert problem.answer is not None
        assert value(problem.equation.removeprefix("x=")) == value(problem.answer), problem


def test_cleaning_keeps_every_problem(problems: dict[SplitName, list[Problem]]) -> None:
    dropped = [result for problem in everything(problems) if isinstance(result := clean(problem), Dropped)]
    assert dropped == []


def test_numbers_of_the_equation_stand_in_the_text(problems: dict[SplitName, list[Problem]]) -> None:
    for problem in everything(problems):
        numbers = set(NUMBER.findall(problem.equation)) - WRITTEN_CONSTANTS
        assert numbers <= set(NUMBER.findall(problem.text)), problem


def test_every_number_that_an_equation_uses_stands_once_in_the_text(
    problems: dict[SplitName, list[Problem]],
) -> None:
    """Otherwise it would be unclear which number of the text is meant."""
    for problem in everything(problems):
        in_text = Counter(value(number) for number in NUMBER.findall(problem.text))
        used = set(NUMBER.findall(problem.equation)) - WRITTEN_CONSTANTS
        assert all(in_text[value(number)] == 1 for number in used), problem


def test_no_template_sign_is_left(problems: dict[SplitName, list[Problem]]) -> None:
    for problem in everything(problems):
        assert not re.search(r"[{}\[\]|]", problem.text + problem.equation), problem
        assert not re.search(r"，，|。。|，。|。，|？？|，？| ", problem.text), problem
        assert problem.text.endswith(("？", "）")), problem


def test_answers_are_positive_and_written_as_asked(problems: dict[SplitName, list[Problem]]) -> None:
    for problem in everything(problems):
        assert problem.answer is not None and value(problem.answer) > 0, problem
        if re.search(r"多少(?:只|名|本|棵|张|辆|头|匹|盏|面)？$", problem.text):
            assert problem.answer.isdigit(), problem
        if problem.text.endswith("百分之几？"):
            assert problem.answer.endswith("%"), problem


@pytest.mark.parametrize(
    ("amount", "form", "expected"),
    [
        (Fraction(7), "integer", "7"),
        (Fraction(7, 2), "integer", None),
        (Fraction(0), "decimal", None),
        (Fraction(-3), "integer", None),
        (Fraction(7, 2), "decimal", "3.5"),
        (Fraction(1, 3), "decimal", None),
        (Fraction(1, 16), "decimal", None),
        (Fraction(7, 2), "fraction", "3(1/2)"),
        (Fraction(3, 4), "fraction", "(3/4)"),
        (Fraction(4), "fraction", "4"),
        (Fraction(1, 101), "fraction", None),
        (Fraction(1, 8), "percent", "12.5%"),
        (Fraction(2), "percent", "200%"),
        (Fraction(1, 3), "percent", None),
    ],
)
def test_answers_come_in_the_form_asked_for(amount: Fraction, form: str, expected: str | None) -> None:
    assert written(amount, form) == expected  # type: ignore[arg-type]


def test_every_kind_appears_equally_often(problems: dict[SplitName, list[Problem]]) -> None:
    for split in SPLITS:
        counts = Counter(problem.kind for problem in problems[split])
        assert counts == {kind.name: COUNT // len(KINDS) for kind in KINDS}
    assert {kind.name for kind in KINDS} >= set(REQUIRED.split())


def test_every_number_form_appears(problems: dict[SplitName, list[Problem]]) -> None:
    texts = "".join(problem.text for problem in problems["train"])
    for pattern in (
        r"[0-9]\.[0-9]",
        r"[^0-9]\([0-9]+/[0-9]+\)",
        r"[0-9]\([0-9]+/[0-9]+\)",
        r"[0-9]%",
        r"[0-9]:[0-9]",
    ):
        assert re.search(pattern, texts), pattern


def test_texts_are_disjoint_between_splits(problems: dict[SplitName, list[Problem]]) -> None:
    texts = {split: {problem.text for problem in problems[split]} for split in SPLITS}
    assert not texts["train"] & texts["unseen_numbers"]
    assert not texts["train"] & texts["unseen_wordings"]
    assert not texts["unseen_numbers"] & texts["unseen_wordings"]
    assert all(len(texts[split]) > 0.97 * COUNT for split in SPLITS)


def test_number_combinations_of_training_are_never_evaluated(
    problems: dict[SplitName, list[Problem]],
) -> None:
    for split in SPLITS:
        readings = [(problem, _combinations(problem)) for problem in problems[split]]
        checked = [(problem, numbers) for problem, numbers in readings if numbers]
        assert len(checked) > COUNT / 3
        for problem, combinations in checked:
            reserved = {is_reserved(problem.kind, numbers) for numbers in combinations}
            assert (split != "train") in reserved, problem  # some equations can be read in two ways


def _combinations(problem: Problem) -> list[list[str]]:
    """The numbers of a problem, where all of them can be read off its equation."""
    combinations = []
    for kind, form, question in asked():
        names = FIELD.findall(question.equation)
        match = re.fullmatch(_reading(question.equation), problem.equation[2:])
        if kind.name == problem.kind and match:
            if set(names) != _names(form, question):
                return []
            numbers = list(match.groupdict().values())
            if len(set(numbers)) == len(numbers):  # as in every problem, see above
                combinations.append(numbers)
    return combinations


@lru_cache
def _reading(equation: str) -> re.Pattern[str]:
    """A pattern that reads the numbers of an equation by their names."""
    pattern, names = "", set()
    for place, part in enumerate(FIELD.split(equation)):
        if place % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += f"(?P={part})" if part in names else f"(?P<{part}>{NUMBER.pattern})"
            names.add(part)
    return re.compile(pattern)


@lru_cache
def _names(form: Form, question: Question) -> set[str]:
    """The numbers that the texts of a question show."""
    words = {field for group in (PEOPLE, *form.words) for field in group.fields}
    return {name for text in wordings(form, question, False) for name in FIELD.findall(text)} - words


def test_reserving_ignores_the_order_of_numbers() -> None:
    reserved = [
        numbers
        for numbers in ((a, b) for a in range(2, 30) for b in range(a))
        if is_reserved("和差", numbers)
    ]
    assert 0.05 < len(reserved) / (28 * 15.5) < 0.15
    assert all(is_reserved("和差", numbers[::-1]) for numbers in reserved)


@pytest.mark.parametrize("split", SPLITS)
def test_a_problem_depends_on_seed_split_and_place_alone(split: SplitName) -> None:
    many = generate(60, 3, split)
    assert generate(60, 3, split) == many
    assert generate(17, 3, split) == many[:17]
    assert generate(60, 4, split) != many
    assert len({problem.id for problem in many}) == 60


def test_this_problem_stays_as_it_is() -> None:
    """Problems are part of published figures: whoever changes the generator changes this on purpose."""
    found = generate(1, 0, "train", ["归总"])[0]
    assert (found.id, found.kind) == ("generated-train-0-0", "归总")
    assert (found.text, found.equation, found.answer) == (
        "一条公路，10天修完，每天修56米，总共有多少米？",
        "x=56*10",
        "560",
    )


def test_kinds_are_chosen_by_either_name() -> None:
    found = generate(6, 0, "train", ["年龄", "planting trees"])
    assert [problem.kind for problem in found] == ["年龄", "植树"] * 3
    assert kind_named("ages") is kind_named("年龄")


@pytest.mark.parametrize(
    ("count", "split", "kinds", "message"),
    [
        (-1, "train", None, "count"),
        (1, "test", None, "split"),
        (1, "train", ["猜谜"], "猜谜"),
        (1, "train", [], "at least one kind"),
    ],
)
def test_mistakes_are_named(count: int, split: SplitName, kinds: list[str] | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate(count, 0, split, kinds)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.english for kind in KINDS])
def test_a_kind_has_enough_wordings(kind: Kind) -> None:
    held_out = [story for form in kind.forms for story in form.held_out]
    stories = [story for form in kind.forms for story in form.stories]
    assert len(stories) >= 6 and len(held_out) >= 2 and len(stories) + len(held_out) >= 8
    assert not set(stories) & set(held_out)
    assert len({(form, question) for form in kind.forms for question in form.questions}) >= 2
    assert all(form.stories and form.held_out for form in kind.forms)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.english for kind in KINDS])
def test_every_story_shows_every_number(kind: Kind) -> None:
    """A number that only some stories show would make the others unsolvable."""
    for form in kind.forms:
        words = {field for group in (PEOPLE, *form.words) for field in group.fields}
        for question in form.questions:
            shown = _names(form, question)
            assert set(FIELD.findall(question.equation)) <= shown, (kind.name, question)
            for held_out in (False, True):
                for text in wordings(form, question, held_out):
                    assert set(FIELD.findall(text)) - words == shown, (kind.name, text)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.english for kind in KINDS])
def test_words_and_numbers_have_different_names(kind: Kind) -> None:
    for form in kind.forms:
        words = [field for group in (PEOPLE, *form.words) for field in group.fields]
        assert len(set(words)) == len(words)
        numbers = form.draw(Random(0))
        assert not set(words) & {*numbers, "noise"}
        assert all(exact(number) is not None for number in numbers.values())
        for group in form.words:
            assert all(len(row) == len(group.fields) for row in group.rows)
            assert len(set(group.rows)) == len(group.rows)


def test_each_question_can_be_drawn_in_each_split() -> None:
    """Rejection never starves a question: nearly every one turns up within a hundred problems of its kind."""
    for kind in KINDS:
        expected = {_shape(question.equation) for form in kind.forms for question in form.questions}
        for split in SPLITS[:2]:
            found = {_shape(problem.equation[2:]) for problem in generate(70, 0, split, [kind.name])}
            assert len(found) >= len(expected) * 0.8, (kind.name, split, len(found), len(expected))


def _shape(equation: str) -> str:
    return NUMBER.sub("#", FIELD.sub("1", equation))


def test_a_share_of_problems_has_an_aside() -> None:
    marks = [
        re.escape(part)
        for aside in ASIDES
        for part in re.split(r"\{\w+\}", aside)
        if len(part) > 3 and "[" not in part
    ]
    texts = [problem.text for problem in generate(1100, 5, "train")]
    share = sum(bool(re.search("|".join(marks), text)) for text in texts) / len(texts)
    assert 0.1 < share < 0.3
