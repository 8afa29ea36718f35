"""Records of choices: changed by dotted names, written and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

import pytest

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.records import Choice, assign, plain, read_record


@dataclass(frozen=True)
class Shape(Choice):
    """A base of choices."""


@dataclass(frozen=True)
class Round(Shape):
    name: ClassVar[str] = "round"
    radius: float = 1.0


@dataclass(frozen=True)
class Square(Shape):
    name: ClassVar[str] = "square"
    side: int = 2


@dataclass(frozen=True)
class Inner:
    count: int = 3
    rate: float = 0.5
    parts: tuple[Fraction, ...] = (Fraction(1, 2),)


@dataclass(frozen=True)
class Whole:
    shape: Shape = field(default_factory=Round)
    inner: Inner = field(default_factory=Inner)
    word: str = "a"
    limit: float | None = None
    flag: bool = False
    words: tuple[str, ...] = ()


def test_a_choice_without_fields_says_what_else_may_be_chosen() -> None:
    with pytest.raises(UserError, match="'radius'; 'softmax' has none: choose first one of atrous, .* local"):
        assign(ModelConfig(vocab_size=5), {"attention.radius": "4"})


def test_fields_are_set_by_dotted_names() -> None:
    changed = assign(
        Whole(),
        {
            "shape": "square",
            "shape.side": "5",
            "inner.count": "7",
            "inner.parts": "1/3,2",
            "limit": "2.5",
            "flag": "true",
            "words": "x,y",
        },
    )
    assert changed == Whole(
        Square(5), Inner(7, 0.5, (Fraction(1, 3), Fraction(2))), "a", 2.5, True, ("x", "y")
    )
    assert assign(changed, {"words": "", "limit": "none"}) == Whole(Square(5), changed.inner, flag=True)


@dataclass(frozen=True)
class Both:
    first: str = ""
    second: str = ""

    def __post_init__(self) -> None:
        if bool(self.first) != bool(self.second):
            raise UserError("first and second go together")


@dataclass(frozen=True)
class Holder:
    both: Both = field(default_factory=Both)


def test_fields_that_need_each_other_are_set_together() -> None:
    assert assign(Both(), {"first": "a", "second": "b"}) == Both("a", "b")
    assert assign(Holder(), {"both.second": "b", "both.first": "a"}) == Holder(Both("a", "b"))
    with pytest.raises(UserError, match="go together"):
        assign(Both(), {"first": "a"})
    assert assign(Whole(), {"shape.side": "5", "shape": "square"}).shape == Square(5)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("shape", "triangle", "round, square"),
        ("shape.side", "3", "unknown name 'side'"),
        ("inner", "3", "group"),
        ("inner.count", "3.5", "a whole number such as 3"),
        ("inner.count.more", "1", "plain value"),
        ("limit", "far", "a number, or none"),
        ("inner.rate", "nan", "a number such as 0.5"),
        ("flag", "1", "true or false"),
        ("colour", "red", "unknown name"),
    ],
)
def test_what_cannot_be_set_is_named(name: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        assign(Whole(), {name: text})


@pytest.mark.parametrize(
    "record",
    [
        Whole(),
        Whole(Square(9), Inner(1, 2.0, ()), "b", 1.0, True, ("p", "q")),
    ],
)
def test_what_is_written_is_read(record: Whole) -> None:
    assert read_record(Whole(), plain(record)) == record


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"colour": 1}, "colour: unknown name"),
        ({"inner": 3}, "inner: expected a table"),
        ({"inner": {"count": "3"}}, r"inner\.count: expected a whole number such as 3, got .3."),
        ({"inner": {"count": True}}, r"inner\.count"),
        ({"inner": {"parts": ["x"]}}, r"inner\.parts"),
        ({"shape": {"side": 3}}, "expected a name"),
        ({"shape": {"name": "square", "radius": 3.0}}, "radius: unknown name"),
        ({"word": 3}, "word"),
        ({"flag": 1}, "flag"),
    ],
)
def test_broken_tables_are_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_record(Whole(), table)


def test_a_choice_lists_only_its_own_kinds() -> None:
    assert Shape.kinds() == Round.kinds() == {"round": Round, "square": Square}
    assert Round.named("square") == Square()


@dataclass(frozen=True)
class Line:
    knots: tuple[tuple[float, float], ...] = ()


@pytest.mark.parametrize("given", [((0.0, 1.0), (1000.0, 0.1)), ((0, 1), (1e-5, 2.5e10)), ()])
def test_pairs_of_numbers_come_back(given: tuple[tuple[float, float], ...]) -> None:
    assert read_record(Line(), plain(Line(given))) == Line(given)
    assert assign(Line(((3, 4),)), {"knots": ",".join(f"{a}:{b}" for a, b in given)}) == Line(given)


@pytest.mark.parametrize("text", ["0,1", "0:1:2", "a:b", "0:nan", "0:1,,2:3"])
def test_what_is_no_pairs_of_numbers(text: str) -> None:
    with pytest.raises(UserError, match="pairs of numbers with commas between them, such as 0:0,1000:1"):
        assign(Line(), {"knots": text})
    with pytest.raises(UserError, match="knots: expected pairs of numbers"):
        read_record(Line(), {"knots": [[1, 2, 3]]})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("inner.cuont", r"unknown name 'cuont'; there are .*; did you mean count\?$"),
        ("cuont", r"unknown name 'cuont'; there are .*; did you mean inner\.count\?$"),
        ("wrod", r"unknown name 'wrod'; there are .*; did you mean word\?$"),
        ("colour", r"unknown name 'colour'; there are [^;]*$"),
    ],
)
def test_a_near_name_is_proposed(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        assign(Whole(), {name: "3"})


@dataclass(frozen=True)
class Open:
    shape: Shape | None = None


def test_a_choice_may_be_left_open() -> None:
    square = assign(Open(), {"shape": "square", "shape.side": "5"})
    assert square == Open(Square(5)) and assign(square, {"shape": "none"}) == Open()
    for record in (Open(), square):
        assert read_record(square, plain(record)) == read_record(Open(), plain(record)) == record
    with pytest.raises(
        UserError, match=r"--set shape.side: shape is none: choose first one of round, square"
    ):
        assign(Open(), {"shape.side": "5"})
    with pytest.raises(UserError, match="--set shape: expected one of round, square, got 'nothing'"):
        assign(Open(), {"shape": "nothing"})
    with pytest.raises(UserError, match="expected one of round, square, got 'none'"):
        assign(Whole(), {"shape": "none"})
