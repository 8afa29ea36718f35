"""The generator: kinds, numbers and wordings drawn for one problem at a time.

题目生成器：逐题抽取题型、数字与说法。

Three splits:

``train``
    training wordings; the numbers are never those of a reserved combination.
``unseen_numbers``
    training wordings; the numbers are always a reserved combination.
``unseen_wordings``
    held-out wordings, and reserved numbers too, so that nothing of the problem was seen in training.

A combination is the kind and the numbers that its text shows, in any order, without numbers of asides. It is
reserved when the CRC-32 of ``kind|number|number...`` (as written, sorted) is divisible by 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from random import Random
from typing import Final, Literal, TypeAlias, get_args
from zlib import crc32

from hanformer.arithmetic.expression import Expression, Number, evaluate, leaves, parse
from hanformer.arithmetic.generated.ages import AGES
from hanformer.arithmetic.generated.average import AVERAGE
from hanformer.arithmetic.generated.cattle import CATTLE
from hanformer.arithmetic.generated.chickens import CHICKENS
from hanformer.arithmetic.generated.fractions_ import FRACTIONS
from hanformer.arithmetic.generated.geometry import GEOMETRY
from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Value, Values, Words, exact, written
from hanformer.arithmetic.generated.one_step import ONE_STEP
from hanformer.arithmetic.generated.percent import CONCENTRATION, PERCENT
from hanformer.arithmetic.generated.ratio import RATIO
from hanformer.arithmetic.generated.sums import DIFFERENCE_AND_MULTIPLE, SUM_AND_DIFFERENCE, SUM_AND_MULTIPLE
from hanformer.arithmetic.generated.surplus import SURPLUS
from hanformer.arithmetic.generated.trade import SHOPPING, TRADE
from hanformer.arithmetic.generated.travel import CATCHING, MEETING, TRAVEL
from hanformer.arithmetic.generated.trees import TREES
from hanformer.arithmetic.generated.unitary import TOTALS, UNITARY
from hanformer.arithmetic.generated.words import ASIDES, PEOPLE
from hanformer.arithmetic.generated.work import WORK
from hanformer.arithmetic.records import Problem
from hanformer.errors import UserError

KINDS: Final[tuple[Kind, ...]] = (
    ONE_STEP,
    CHICKENS,
    SURPLUS,
    AGES,
    TREES,
    CATTLE,
    TRADE,
    SHOPPING,
    TRAVEL,
    MEETING,
    CATCHING,
    WORK,
    FRACTIONS,
    PERCENT,
    CONCENTRATION,
    RATIO,
    AVERAGE,
    UNITARY,
    TOTALS,
    SUM_AND_DIFFERENCE,
    SUM_AND_MULTIPLE,
    DIFFERENCE_AND_MULTIPLE,
    GEOMETRY,
)
"""Every kind, in the order in which tables show them."""

SplitName: TypeAlias = Literal["train", "unseen_numbers", "unseen_wordings"]

ASIDE_SHARE: Final = 0.3
"""The share of problems with a sentence that has nothing to do with the answer."""

_ATTEMPTS: Final = 10_000
_FIELD: Final = re.compile(r"\{(\w+)\}")
_CHOICE: Final = re.compile(r"\[([^\]]*)\]")


def generate(count: int, seed: int, split: SplitName, kinds: Sequence[str] | None = None) -> list[Problem]:
    """Problems of a split; problem i depends on (seed, split, i, kinds) alone, and kinds take turns.

    生成一个划分的题目；第 i 题只取决于 (seed, split, i, kinds)。

    kinds: Chinese or English names of the kinds to take; all of them without it.
    Raises: UserError for a negative count, an unknown split or an unknown kind.
    """
    if count < 0:
        raise UserError(f"expected a count of problems, found {count}; give 0 or more")
    if split not in get_args(SplitName):
        raise UserError(f"expected a split among {', '.join(get_args(SplitName))}, found {split!r}")
    chosen = KINDS if kinds is None else tuple(kind_named(name) for name in kinds)
    if not chosen:
        raise UserError("expected at least one kind, found none; leave kinds out to take all")
    return [_problem(chosen[index % len(chosen)], seed, split, index) for index in range(count)]


def kind_named(name: str) -> Kind:
    """The kind with this Chinese or English name. 按中文名或英文名取题型。

    Raises: UserError for an unknown name.
    """
    for kind in KINDS:
        if name in (kind.name, kind.english):
            return kind
    raise UserError(f"expected a kind among {'、'.join(kind.name for kind in KINDS)}, found {name!r}")


def is_reserved(kind: str, numbers: Sequence[Value]) -> bool:
    """Whether training never draws these numbers for this kind. 判断该数字组合是否留作测试。"""
    key = "|".join([kind, *sorted(str(number) for number in numbers)])
    return crc32(key.encode()) % 10 == 0


# ---------------------------------------------------------------- templates, compiled once


@dataclass(frozen=True)
class _Wording:
    """Story and question as alternating choices, and the names of their fields."""

    pieces: tuple[tuple[str, ...], ...]
    fields: frozenset[str]


@dataclass(frozen=True)
class _Solver:
    """The equation's tree over slots, the names of the slots, and its constants."""

    tree: Expression
    names: tuple[str, ...]
    constants: frozenset[Fraction]


@cache
def _wording(template: str) -> _Wording:
    pieces = [
        piece.split("|") if place % 2 else [piece] for place, piece in enumerate(_CHOICE.split(template))
    ]
    return _Wording(
        tuple(tuple(piece) for piece in pieces if piece != [""]), frozenset(_FIELD.findall(template))
    )


@cache
def _solver(equation: str) -> _Solver:
    names = tuple(dict.fromkeys(_FIELD.findall(equation)))
    tree = parse(_FIELD.sub(lambda match: f"N{names.index(match[1])}", equation))
    constants = frozenset(leaf.value for leaf in leaves(tree) if isinstance(leaf, Number))
    return _Solver(tree, names, constants)


CONSTANTS: Final[tuple[Fraction, ...]] = tuple(
    sorted(
        frozenset[Fraction]().union(
            *(
                _solver(question.equation).constants
                for kind in KINDS
                for form in kind.forms
                for question in form.questions
            )
        )
    )
)
"""Numbers that equations use although the text need not show them: 1, 2, 3, 3.14, 4, 100, 100000."""


def wordings(form: Form, question: Question, held_out: bool) -> Iterator[str]:
    """The templates of a form's stories with one of its questions in place. 某一问法的全部说法模板。"""
    for story in form.held_out if held_out else form.stories:
        yield story.replace("{ask}", question.ask) if "{ask}" in story else story + question.ask


@cache
def _wordings(form: Form, question: Question, held_out: bool) -> tuple[_Wording, ...]:
    return tuple(_wording(template) for template in wordings(form, question, held_out))


# ---------------------------------------------------------------- one problem


@dataclass(frozen=True)
class _Drawn:
    """The numbers of a problem as written, their exact values, and the answer."""

    values: Values
    taken: frozenset[Fraction]
    answer: str


def _problem(kind: Kind, seed: int, split: SplitName, index: int) -> Problem:
    rng = Random(f"{seed}/{split}/{index}")
    form = rng.choice(kind.forms)
    question = rng.choice(form.questions)
    wording = rng.choice(_wordings(form, question, split == "unseen_wordings"))
    drawn = _draw(rng, kind, form, question, wording, split != "train")
    fields = {**_words(rng, PEOPLE), **drawn.values}
    for words in form.words:
        fields.update(_words(rng, words))
    text = _render(rng, wording).format_map(fields)
    if rng.random() < ASIDE_SHARE:
        text = _with_aside(rng, kind, text, fields, drawn.taken)
    equation = "x=" + question.equation.format_map(fields)
    return Problem(f"generated-{split}-{seed}-{index}", text, equation, drawn.answer, kind.name)


def _draw(
    rng: Random, kind: Kind, form: Form, question: Question, wording: _Wording, reserved: bool
) -> _Drawn:
    """Numbers of this side of the split, none of them twice or a constant, with a natural answer."""
    solver = _solver(question.equation)
    for _ in range(_ATTEMPTS):
        values = {name: value for name, value in form.draw(rng).items() if name in wording.fields}
        if is_reserved(kind.name, list(values.values())) != reserved:
            continue
        amounts = {name: exact(value) for name, value in values.items()}
        taken = solver.constants.union(amounts.values())
        if len(taken) < len(solver.constants) + len(amounts) or min(amounts.values()) <= 0:
            continue
        value = evaluate(solver.tree, [amounts[name] for name in solver.names])
        answer = written(value, question.answer)
        if answer is not None:
            return _Drawn(values, taken | {value}, answer)
    raise RuntimeError(f"{kind.name}: no numbers for {question.equation} in {_ATTEMPTS} attempts")


def _words(rng: Random, words: Words) -> dict[str, str]:
    return dict(zip(words.fields, rng.choice(words.rows), strict=True))


def _render(rng: Random, wording: _Wording) -> str:
    return "".join(rng.choice(piece) for piece in wording.pieces)


def _with_aside(
    rng: Random, kind: Kind, text: str, fields: Mapping[str, Value], taken: frozenset[Fraction]
) -> str:
    """The text with an irrelevant sentence before it, or after its first sentence."""
    noise = rng.randint(5, 60)
    while noise in taken:
        noise = rng.randint(5, 60)
    fields = {**fields, "noise": noise}
    usable = [aside for aside in (*ASIDES, *kind.asides) if _wording(aside).fields <= fields.keys()]
    aside = _render(rng, _wording(rng.choice(usable))).format_map(fields)
    first, stop, rest = text.partition("。")
    return f"{first}{stop}{aside}{rest}" if stop and rng.randrange(2) else f"{aside}{text}"
