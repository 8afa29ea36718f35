"""The raw-number layout of the blog: problem and expression as plain text, which a pretrained BERT can learn."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from hanformer.arithmetic.cleaning import Dropped, clean, rewrite_text
from hanformer.arithmetic.expression import Expression, parse
from hanformer.arithmetic.grammar import Grammar, Operands
from hanformer.arithmetic.layouts import LAYOUT_FILE, NO_NUMBERS, Noise, Reading, check_text, grammar_for
from hanformer.arithmetic.records import Problem
from hanformer.errors import UserError
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer, character_pieces
from hanformer.weights.atomic import write_bytes

#: `**` is written with one character, so that an operator is one token.
OPERATORS = ("+", "-", "*", "/", "^")
_NUMERIC = frozenset("0123456789./+()")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SYMBOL = re.compile(r"\d+(?:\.\d+)?|[-+*/^()]")


@dataclass(frozen=True)
class RawOptions:
    """The choices of the raw layout: how many characters are learned, and the numbers that need not be given.

    原始数字布局的选项：词表大小与常用常数。
    """

    vocabulary: int = 4000
    constants: tuple[str, ...] = ("1", "2", "3.14", "10", "100")


class RawLayout:
    """[CLS] question [SEP] → expression [SEP], both as WordPiece tokens, numbers written out.

    原始数字布局：题面与表达式都是普通文本（先按博客的规则改写）。

    The question is rewritten by the blog's rules 1 and 3, the equation by all of them. Decoding may use the
    numbers that stand in the question, and the constants. Source: kexue.fm/archives/7809.
    """

    name = "raw"

    def __init__(self, tokenizer: WordPieceTokenizer, options: RawOptions) -> None:
        self.tokenizer, self.options = tokenizer, options
        vocabulary = tokenizer.vocabulary
        missing = [symbol for symbol in (*OPERATORS, "(", ")") if symbol not in vocabulary]
        if missing:
            raise UserError(f"the vocabulary lacks {' '.join(missing)}, which expressions are written with")
        self._ids = {symbol: vocabulary[symbol] for symbol in (*OPERATORS, "(", ")")}

    @classmethod
    def fit(cls, problems: Sequence[Problem], options: RawOptions) -> RawLayout:
        """A vocabulary of the characters of training problems; digits are tokens of their own.

        由训练题建立字级词表。
        """
        texts = (rewrite_text(check_text(problem.text)) for problem in problems)
        digits = [prefix + digit for digit in "0123456789" for prefix in ("", "##")]
        symbols = [*OPERATORS, "(", ")", ".", *digits]
        built = Vocabulary.build(texts, _characters, size=options.vocabulary - len(symbols), minimum_count=2)
        kept = [token for token in built.tokens if token not in symbols]
        return cls(WordPieceTokenizer(Vocabulary([*kept, *symbols])), options)

    @property
    def vocabulary_size(self) -> int:
        """Tokens of the WordPiece vocabulary."""
        return len(self.tokenizer.vocabulary)

    @property
    def end(self) -> int:
        """[SEP]."""
        return self.tokenizer.vocabulary.sep_id

    @cached_property
    def grammar(self) -> Grammar:
        """Infix expressions whose operands are the token sequences of numbers."""
        return grammar_for("infix", self._ids, OPERATORS, self.end)

    def read(self, text: str) -> Reading:
        """Source ids and usable numbers of a problem."""
        question = rewrite_text(check_text(text))
        encoding = self.tokenizer.encode(question)
        found = _NUMBER.findall(question)
        if not found:
            raise UserError(NO_NUMBERS)
        numbers = {*found, *self.options.constants}
        operands = frozenset(tuple(self._number(number)) for number in numbers if len(number) <= 20)
        return Reading(tuple(encoding.ids), (), Operands(operands))

    def _number(self, written: str) -> list[int]:
        return self.tokenizer.pieces(written).ids

    def write_all(
        self, problems: Sequence[Problem], readings: Sequence[Reading]
    ) -> list[tuple[int, ...] | None]:
        """The cleaned equations as targets."""
        return [self._write(*pair) for pair in zip(problems, readings, strict=True)]

    def vary(self, problem: Problem, reading: Reading, noise: Noise, random: Random) -> tuple[int, ...]:
        """The source with some tokens masked; WordPiece cuts a text in one way only."""
        mask = self.tokenizer.vocabulary.mask_id
        first, *inner, last = reading.source
        kept = self._numeric
        return (
            first,
            *(mask if token not in kept and random.random() < noise.mask else token for token in inner),
            last,
        )

    @cached_property
    def _numeric(self) -> frozenset[int]:
        """Tokens that write numbers."""
        tokens = self.tokenizer.vocabulary.tokens
        return frozenset(i for i, token in enumerate(tokens) if set(token.removeprefix("##")) <= _NUMERIC)

    def _write(self, problem: Problem, reading: Reading) -> tuple[int, ...] | None:
        """The cleaned equation as ids; None where cleaning refuses it or it needs a number that does not exist."""
        cleaned = clean(problem)
        if isinstance(cleaned, Dropped):
            return None
        ids: list[int] = []
        for symbol in _SYMBOL.findall(cleaned.equation.replace("**", "^")):
            if symbol in self._ids:
                ids.append(self._ids[symbol])
                continue
            number = self._number(symbol)
            if tuple(number) not in reading.operands.sequences:
                return None
            ids += number
        return (*ids, self.end)

    def understand(self, target: Sequence[int], reading: Reading) -> Expression:
        """The expression that the ids write."""
        tokens = self.tokenizer.vocabulary.tokens_of(target)
        return parse("".join(token.removeprefix("##") for token in tokens).replace("^", "**"))

    def save(self, folder: Path) -> None:
        """Writes layout.json beside the tokenizer's files."""
        text = json.dumps({"name": self.name, "options": asdict(self.options)}, ensure_ascii=False, indent=2)
        write_bytes(folder / LAYOUT_FILE, (text + "\n").encode())
        self.tokenizer.save(folder)

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> RawLayout:
        """Reads what `save` wrote."""
        try:
            options = RawOptions(**{**values, "constants": tuple(values["constants"])})
        except (KeyError, TypeError) as error:
            raise UserError(f"{folder / LAYOUT_FILE}: not a raw layout of this version ({error})") from None
        return cls(WordPieceTokenizer.load(folder), options)


def _characters(text: str) -> list[str]:
    return [piece for piece in character_pieces(text) if not piece.isdigit()]
