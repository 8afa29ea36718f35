"""Solving: text in, expression and exact answer out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from torch import Tensor

from hanformer.arithmetic.answers import format_answer
from hanformer.arithmetic.expression import (
    Expression,
    ExpressionError,
    Negate,
    Number,
    Operation,
    Slot,
    evaluate,
)
from hanformer.arithmetic.layouts import ProblemLayout, Reading
from hanformer.arithmetic.notation import to_infix
from hanformer.decode import AutomatonConstraint, Beam, Greedy, Hypothesis, Power, generate
from hanformer.errors import UserError

#: The most tokens of a target, its end included.
LONGEST_TARGET = 48


@dataclass(frozen=True)
class Solution:
    """A solved problem. 一道题的解。

    `expression` is written with the problem's own numbers, `value` is exact, `answer` is in the form that the
    question asks for; `probability` is the share of the beam's probability that gives this value.
    """

    text: str
    expression: str
    value: Fraction
    answer: str
    probability: float


class Model(Protocol):
    """What solving asks of a model; its state is its own affair. 解题所需的模型接口。"""

    def eval(self) -> Any:
        """The model, in eval mode."""

    def prompt(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Any]:
        """Next-token logits [P, V] after each problem, and the state of decoding (`decode.protocols.State`)."""

    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """Logits [R, T, V] after appending tokens [R, T] (`decode.protocols.Step`)."""


class Solver:
    """A trained model with its layout: solves many problems at once.

    训练好的模型及其布局；可批量解题。

    `beams` = 1 is greedy. Candidates of a beam that have the same value add up their probabilities (`vote`),
    and the most probable value wins; candidates that cannot be evaluated (a division by zero) are passed over.
    """

    def __init__(
        self,
        model: Model,
        layout: ProblemLayout,
        *,
        beams: int = 3,
        vote: bool = True,
        batch_tokens: int = 4096,
    ) -> None:
        if beams < 1:
            raise UserError(f"beams: expected at least 1, got {beams}")
        self.model, self.layout = model.eval(), layout
        self.beams, self.vote, self.batch_tokens = beams, vote, batch_tokens

    def solve(self, text: str) -> Solution:
        """The solution of one problem; raises UserError where there is none. 解一道题。"""
        solution = self.solve_readings([text], [self.layout.read(text)])[0]
        if solution is None:
            raise UserError("the model found no expression with a value for this problem")
        return solution

    def solve_all(self, texts: Sequence[str]) -> list[Solution | UserError]:
        """The solutions of many problems, in their order; a problem that cannot be read gives its error.

        批量解题；读不懂的题返回相应的错误。
        """
        results: list[Solution | UserError] = [UserError("not solved")] * len(texts)
        readable: list[tuple[int, Reading]] = []
        for index, text in enumerate(texts):
            try:
                readable.append((index, self.layout.read(text)))
            except UserError as error:
                results[index] = error
        solutions = self.solve_readings(
            [texts[index] for index, _ in readable], [reading for _, reading in readable]
        )
        missing = UserError("the model found no expression with a value for this problem")
        for (index, _), solution in zip(readable, solutions, strict=True):
            results[index] = missing if solution is None else solution
        return results

    def solve_readings(self, texts: Sequence[str], readings: Sequence[Reading]) -> list[Solution | None]:
        """`solve_all` for problems that were read before."""
        solutions: list[Solution | None] = [None] * len(texts)
        for batch in self._batches(readings):
            hypotheses = self._decode([readings[index] for index in batch])
            for index, found in zip(batch, hypotheses, strict=True):
                solutions[index] = self._choose(texts[index], readings[index], found)
        return solutions

    def _batches(self, readings: Sequence[Reading]) -> Iterator[list[int]]:
        """Problems of similar length together, at most `batch_tokens` tokens of beams a batch."""
        batch: list[int] = []
        for index in sorted(range(len(readings)), key=lambda place: -len(readings[place].source)):
            longest = len(readings[batch[0]].source) if batch else 0
            if batch and (len(batch) + 1) * (longest + LONGEST_TARGET // 4) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _decode(self, readings: Sequence[Reading]) -> list[list[Hypothesis]]:
        grammar = self.layout.grammar
        constraint = AutomatonConstraint(
            grammar,
            [grammar.start(reading.operands, LONGEST_TARGET) for reading in readings],
            self.layout.vocabulary_size,
        )
        logits, state = self.model.prompt([reading.source for reading in readings])
        # Sums of log-probabilities, not means per token: a longer expression is no better for its length.
        rule = Greedy() if self.beams == 1 else Beam(self.beams, results=self.beams, penalty=Power(0.0))
        return generate(
            self.model.step,
            state,
            logits,
            rule=rule,
            end_id=self.layout.end,
            maximum_length=LONGEST_TARGET,
            constraint=constraint,
        )

    def _choose(self, text: str, reading: Reading, hypotheses: Sequence[Hypothesis]) -> Solution | None:
        """The value with the most probability, written as its most probable expression."""
        candidates: dict[Fraction, tuple[Expression, float]] = {}
        total = 0.0
        for hypothesis in sorted(hypotheses, key=lambda found: -found.score):
            found = self._evaluated(hypothesis, reading)
            if found is None:
                continue
            expression, value = found
            probability = math.exp(hypothesis.score)
            total += probability
            if value not in candidates:
                candidates[value] = (expression, probability)
            elif self.vote:
                first, before = candidates[value]
                candidates[value] = (first, before + probability)
        if not candidates:
            return None
        value, (expression, probability) = max(candidates.items(), key=lambda item: item[1][1])
        named = fill_slots(expression, [number.value for number in reading.numbers])
        return Solution(
            text,
            to_infix(named),
            value,
            format_answer(value, text, named, reading.numbers),
            probability / max(total, 1e-300),
        )

    def _evaluated(self, hypothesis: Hypothesis, reading: Reading) -> tuple[Expression, Fraction] | None:
        if not hypothesis.finished:
            return None
        expression = self.layout.understand(hypothesis.tokens, reading)
        try:
            return expression, evaluate(expression, [number.value for number in reading.numbers])
        except ExpressionError:
            return None


def fill_slots(expression: Expression, values: Sequence[Fraction]) -> Expression:
    """The expression with the problem's numbers in its slots. 把槽位换回题目中的数。"""
    if isinstance(expression, Slot):
        return Number(values[expression.index])
    if isinstance(expression, Negate):
        return Negate(fill_slots(expression.operand, values))
    if isinstance(expression, Operation):
        left, right = fill_slots(expression.left, values), fill_slots(expression.right, values)
        return Operation(expression.operator, left, right)
    return expression
