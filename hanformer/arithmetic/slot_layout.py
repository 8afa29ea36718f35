"""The slot layout, for training from scratch: each number of the problem is one token, [N0], [N1], ..."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from hanformer.arithmetic.cleaning import read_equation
from hanformer.arithmetic.expression import Expression, ExpressionError, Number, leaves
from hanformer.arithmetic.grammar import Grammar, Operands
from hanformer.arithmetic.layouts import LAYOUT_FILE, NO_NUMBERS, Noise, Reading, check_text, grammar_for
from hanformer.arithmetic.normalise import equivalents, normalise
from hanformer.arithmetic.notation import (
    from_infix_tokens,
    from_prefix,
    literal,
    to_infix_tokens,
    to_prefix,
)
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.slots import NumberSpan, align, find_numbers
from hanformer.arithmetic.writings import Writings
from hanformer.errors import UserError
from hanformer.text.pieces import PieceTokenizer, train_pieces
from hanformer.weights.atomic import write_bytes

OPERATORS = ("+", "-", "*", "/", "**")
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WRITINGS = ("given", "chains", "value")
ORDERS = ("prefix", "infix")
#: What follows a slot token, so that the kind of number is seen where its value is not.
MARKERS = {"decimal": "[decimal]", "fraction": "[fraction]", "mixed": "[fraction]", "percent": "[percent]"}


@dataclass(frozen=True)
class SlotOptions:
    """The choices of the slot layout.

    槽位布局的选项。

    `order`: prefix or infix targets; `slots`: how many numbers of a problem can be named; `pieces`: size of the
    learned vocabulary of text pieces; `writing`: how equal expressions are written, as "given", in one order of
    "chains", or by "value" in the writing that training uses most (`Writings`); `constants`: numbers that need
    not stand in the problem, by default those that training equations use (`find_constants`).
    """

    order: str = "prefix"
    slots: int = 15
    pieces: int = 3000
    writing: str = "value"
    chinese_numerals: bool = False
    constants: tuple[Fraction, ...] = ()

    def __post_init__(self) -> None:
        for name, value, words in (("order", self.order, ORDERS), ("writing", self.writing, WRITINGS)):
            if value not in words:
                raise UserError(f"slots.{name}: expected one of {', '.join(words)}, got {value!r}")
        if self.slots < 1 or self.pieces < 1:
            raise UserError(
                f"slots: expected at least one slot and one piece, got slots={self.slots} and pieces={self.pieces}"
            )


class SlotLayout:
    """[CLS] text with slots [SEP] → expression over slots and constants [SEP].

    槽位布局：题目中的数换成槽位词元，目标是槽位与常数上的表达式。

    The vocabulary: special tokens, operators and brackets, constants, slots, kinds of numbers, then the learned
    pieces of text. Operators in a text are pieces of text, and never mistaken for those of a target.
    """

    name = "slots"

    def __init__(self, pieces: PieceTokenizer, options: SlotOptions) -> None:
        self.pieces, self.options = pieces, options
        constants = [literal(value) for value in options.constants]
        slots = [f"[N{index}]" for index in range(options.slots)]
        fixed = [*SPECIALS, *OPERATORS, "(", ")", *constants, *slots, *sorted(set(MARKERS.values()))]
        self._ids = {token: index for index, token in enumerate(fixed)}
        self._names = [token.strip("[]") if token in slots else token for token in fixed]
        self._first_piece = len(fixed)
        self._constants = [self._ids[constant] for constant in constants]

    @classmethod
    def fit(cls, problems: Sequence[Problem], options: SlotOptions) -> SlotLayout:
        """Learns the pieces of text from training problems. 从训练题学习文本片段词表。"""
        if not options.constants:
            options = replace(options, constants=find_constants(problems, options.chinese_numerals))
        texts = (part for problem in problems for part in text_between(problem.text, options))
        return cls(train_pieces(texts, options.pieces), options)

    @property
    def vocabulary_size(self) -> int:
        """Fixed tokens and pieces together."""
        return self._first_piece + self.pieces.vocabulary_size

    @property
    def end(self) -> int:
        """[SEP]."""
        return self._ids["[SEP]"]

    @cached_property
    def grammar(self) -> Grammar:
        """Well-formed targets in the chosen order."""
        return grammar_for(self.options.order, self._ids, OPERATORS, self.end)

    def read(self, text: str) -> Reading:
        """Source ids, numbers and operands of a problem; numbers beyond the last slot stay text."""
        text = check_text(text)
        numbers = tuple(find_numbers(text, self.options.chinese_numerals)[: self.options.slots])
        if not numbers:
            raise UserError(NO_NUMBERS)
        operands = [*self._constants, *(self._ids[f"[N{index}]"] for index in range(len(numbers)))]
        source = self._source(text, numbers, self._pieces_of)
        return Reading(source, numbers, Operands(frozenset((operand,) for operand in operands)))

    def vary(self, problem: Problem, reading: Reading, noise: Noise, random: Random) -> tuple[int, ...]:
        """The source cut into pieces by chance, and some pieces masked."""

        def pieces_of(text: str) -> list[int]:
            found = self.pieces.pieces(text, dropout=noise.piece_dropout, random=random).ids
            return [
                mask if noise.mask and random.random() < noise.mask else self._first_piece + piece
                for piece in found
            ]

        mask = self._ids["[MASK]"]
        return self._source(check_text(problem.text), reading.numbers, pieces_of)

    def _source(
        self, text: str, numbers: Sequence[NumberSpan], pieces_of: Callable[[str], list[int]]
    ) -> tuple[int, ...]:
        source = [self._ids["[CLS]"]]
        place = 0
        for index, number in enumerate(numbers):
            source += pieces_of(text[place : number.start])
            source.append(self._ids[f"[N{index}]"])
            if number.kind in MARKERS:
                source.append(self._ids[MARKERS[number.kind]])
            place = number.end
        return (*source, *pieces_of(text[place:]), self.end)

    def _pieces_of(self, text: str) -> list[int]:
        return [self._first_piece + piece for piece in self.pieces.pieces(text).ids] if text else []

    def write_all(
        self, problems: Sequence[Problem], readings: Sequence[Reading]
    ) -> list[tuple[int, ...] | None]:
        """The targets; None where an equation needs a number that is neither slot nor constant."""
        expressions = [self._express(*pair) for pair in zip(problems, readings, strict=True)]
        writing = self._writing([expression for expression in expressions if expression is not None])
        return [
            None if expression is None else self._target(writing(expression)) for expression in expressions
        ]

    def _express(self, problem: Problem, reading: Reading) -> Expression | None:
        try:
            equation = read_equation(problem.equation)
        except ExpressionError:
            return None
        return align(equation, reading.numbers, self.options.constants)

    def _writing(self, expressions: Sequence[Expression]) -> Callable[[Expression], Expression]:
        if self.options.writing == "value":
            return Writings(expressions)
        return normalise if self.options.writing == "chains" else lambda expression: expression

    def _target(self, expression: Expression) -> tuple[int, ...] | None:
        """The ids of an expression over slots, end included; None where a token has no id."""
        tokens = to_prefix(expression) if self.options.order == "prefix" else to_infix_tokens(expression)
        ids = [self._ids.get(f"[{token}]" if token.startswith("N") else token) for token in tokens]
        known = tuple(token for token in ids if token is not None)
        return (*known, self.end) if len(known) == len(ids) else None

    def rewrite(self, target: Sequence[int], random: Random) -> tuple[int, ...]:
        """A target (end included) in a random writing of the same value. 随机换一种等价写法。"""
        try:
            written = self._target(equivalents(self._expression(target[:-1]), random))
        except ExpressionError:  # deeper than a tree may be
            written = None
        return tuple(target) if written is None else written

    def understand(self, target: Sequence[int], reading: Reading) -> Expression:
        """The expression that the ids stand for."""
        return self._expression(target)

    def _expression(self, target: Sequence[int]) -> Expression:
        tokens = [self._names[token] for token in target]
        return from_prefix(tokens) if self.options.order == "prefix" else from_infix_tokens(tokens)

    def save(self, folder: Path) -> None:
        """Writes layout.json and the tokenizer of the pieces."""
        values: dict[str, Any] = asdict(self.options)
        values["constants"] = [str(value) for value in self.options.constants]
        text = json.dumps({"name": self.name, "options": values}, ensure_ascii=False, indent=2)
        write_bytes(folder / LAYOUT_FILE, (text + "\n").encode())
        self.pieces.save(folder)

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> SlotLayout:
        """Reads what `save` wrote."""
        try:
            constants = tuple(Fraction(value) for value in values["constants"])
            options = SlotOptions(**{**values, "constants": constants})
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise UserError(f"{folder / LAYOUT_FILE}: not a slot layout of this version ({error})") from None
        return cls(PieceTokenizer.load(folder), options)


#: A constant is kept when at least this share of training equations needs it.
CONSTANT_SHARE = 5e-4


def find_constants(problems: Sequence[Problem], chinese_numerals: bool = False) -> tuple[Fraction, ...]:
    """The numbers that training equations use although their problems do not name them, most frequent first.

    训练方程用到、而题目中没有的数，按频次排列。

    1 is always among them: a whole is 1.
    """
    counts: Counter[Fraction] = Counter()
    for problem in problems:
        try:
            equation = read_equation(problem.equation)
        except ExpressionError:
            continue
        # With every number allowed as a constant, those that stay numbers are the ones that no slot explains.
        every = [leaf.value for leaf in leaves(equation) if isinstance(leaf, Number)]
        aligned = align(equation, find_numbers(problem.text, chinese_numerals), every)
        if aligned is not None:
            counts.update({leaf.value for leaf in leaves(aligned) if isinstance(leaf, Number)})
    kept = [value for value, count in counts.most_common() if count >= CONSTANT_SHARE * len(problems)]
    return tuple(dict.fromkeys([Fraction(1), *kept]))


def text_between(text: str, options: SlotOptions) -> Iterator[str]:
    """The parts of a problem that are not numbers. 题目中数以外的文本。"""
    text = check_text(text)
    place = 0
    spans: list[NumberSpan] = find_numbers(text, options.chinese_numerals)[: options.slots]
    for number in spans:
        yield text[place : number.start]
        place = number.end
    yield text[place:]
