"""Solving: text in, expression and exact answer out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from hanformer.arithmetic.slots import as_operand
from hanformer.decode import AutomatonConstraint, Beam, Greedy, Hypothesis, Power, generate
from hanformer.errors import UserError

#: The most tokens of a target, its end included.
LONGEST_TARGET = 48


@dataclass(frozen=True)
class Solution:
    """A solved problem. 一道题的解。

    `expression` is written with the problem's own numbers as they stand there (20%, 1(1/2)), `value` is exact,
    `answer` is in the form that the question asks for; `probability` is the share of the beam's probability that gives
    this value.
    """

    text: str
    expression: str
    value: Fraction
    answer: str
    probability: float


@dataclass(frozen=True)
class Candidate:
    """A value that a model gives a problem, with its most probable expression, also as text. 候选答案及其概率。"""

    expression: Expression
    written: str
    value: Fraction
    probability: float


class Model(Protocol):
    """What solving asks of a model; its state is its own affair. 解题所需的模型接口。"""

    def eval(self) -> Any:
        """The model, in eval mode."""

    def prompt(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Any]:
        """Next-token logits [P, V] after each problem, and the state of decoding (`decode.protocols.State`)."""

    def step(self, tokens: Tensor, state: Any) -> Tensor:
        """Logits [R, T, V] after appending tokens [R, T] (`decode.protocols.Step`)."""


class Solving(ABC):
    """Whatever gives candidates solves problems, one or many. 由候选答案求解的共同部分。"""

    @abstractmethod
    def read(self, text: str) -> Reading:
        """The problem as the models read it; raises UserError where it cannot be read."""

    @abstractmethod
    def candidates_of(self, texts: Sequence[str], readings: Sequence[Reading]) -> list[list[Candidate]]:
        """The values of problems that were read before."""

    def solve(self, text: str) -> Solution:
        """The solution of one problem; raises UserError where there is none. 解一道题。"""
        solution = self.solve_all([text])[0]
        if isinstance(solution, UserError):
            raise solution
        return solution

    def solve_all(self, texts: Sequence[str]) -> list[Solution | UserError]:
        """The solutions of many problems, in their order; a problem that cannot be read gives its error.

        批量解题；读不懂的题返回相应的错误。
        """
        results: list[Solution | UserError] = [UserError("not solved")] * len(texts)
        readable: list[tuple[int, Reading]] = []
        for index, text in enumerate(texts):
            try:
                readable.append((index, self.read(text)))
            except UserError as error:
                results[index] = error
        found = self.candidates_of(
            [texts[index] for index, _ in readable], [reading for _, reading in readable]
        )
        for (index, reading), candidates in zip(readable, found, strict=True):
            solution = decide(texts[index], reading, candidates)
            results[index] = _unsolved() if solution is None else solution
        return results


def _unsolved() -> UserError:
    return UserError("the model found no expression with a value for this problem")


class Solver(Solving):
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

    def read(self, text: str) -> Reading:
        """The problem in this solver's layout; raises UserError where it cannot be read."""
        return self.layout.read(text)

    def candidates_of(self, texts: Sequence[str], readings: Sequence[Reading]) -> list[list[Candidate]]:
        """`candidates`: the readings say all."""
        return self.candidates(readings)

    def candidates(self, readings: Sequence[Reading]) -> list[list[Candidate]]:
        """The values that beams give to problems that were read before, most probable first; perhaps none.

        各题的候选答案（按概率排序）。
        """
        found: list[list[Candidate]] = [[] for _ in readings]
        for batch in self._batches(readings):
            hypotheses = self._decode([readings[index] for index in batch])
            for index, written in zip(batch, hypotheses, strict=True):
                found[index] = self._values(readings[index], written)
        return found

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

    def _values(self, reading: Reading, hypotheses: Sequence[Hypothesis]) -> list[Candidate]:
        """Each value once, with the probability of all that gives it, written as its most probable expression."""
        written: list[Candidate] = []
        for hypothesis in sorted(hypotheses, key=lambda found: -found.score):
            found = self._evaluated(hypothesis, reading)
            if found is not None:
                expression = fill_slots(found[0], [number.value for number in reading.numbers])
                text = to_infix(found[0], [as_operand(number) for number in reading.numbers])
                written.append(Candidate(expression, text, found[1], math.exp(hypothesis.score)))
        return merged(written, self.vote)

    def _evaluated(self, hypothesis: Hypothesis, reading: Reading) -> tuple[Expression, Fraction] | None:
        if not hypothesis.finished:
            return None
        expression = self.layout.understand(hypothesis.tokens, reading)
        try:
            return expression, evaluate(expression, [number.value for number in reading.numbers])
        except ExpressionError:
            return None


def merged(candidates: Sequence[Candidate], vote: bool = True) -> list[Candidate]:
    """Candidates of one value as one, most probable first; with `vote` their probabilities add up.

    合并取值相同的候选。
    """
    values: dict[Fraction, Candidate] = {}
    for candidate in sorted(candidates, key=lambda found: -found.probability):
        first = values.get(candidate.value)
        if first is None:
            values[candidate.value] = candidate
        elif vote:
            values[candidate.value] = replace(first, probability=first.probability + candidate.probability)
    return sorted(values.values(), key=lambda found: -found.probability)


def decide(text: str, reading: Reading, candidates: Sequence[Candidate]) -> Solution | None:
    """The solution that the most probable candidate is; None where there is no candidate. 取概率最高的候选。"""
    if not candidates:
        return None
    best = max(candidates, key=lambda found: found.probability)
    total = sum(candidate.probability for candidate in candidates)
    answer = format_answer(best.value, text, best.expression, reading.numbers)
    share = best.probability / max(total, 1e-300)
    return Solution(text, best.written, best.value, answer, share)


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


class Committee(Solving):
    """Several trained models that vote: the probabilities of a value are averaged over them.

    多个模型投票：对各答案的概率取平均。

    p(v) = Σ_m p_m(v) / M, with p_m(v) the probability of the beams of member m whose value is v. Members may differ in
    layout, target order, sizes and seed; a member that cannot read a problem has no vote on it.
    Raises UserError for no members.
    """

    def __init__(self, members: Sequence[Solver]) -> None:
        if not members:
            raise UserError("a committee needs at least one solver")
        self.members = tuple(members)

    @property
    def beams(self) -> int:
        """The width of the members' beams."""
        return self.members[0].beams

    @property
    def vote(self) -> bool:
        """Whether candidates of one value add up."""
        return self.members[0].vote

    def read(self, text: str) -> Reading:
        """The problem as the first member reads it."""
        return self.members[0].read(text)

    def candidates_of(self, texts: Sequence[str], readings: Sequence[Reading]) -> list[list[Candidate]]:
        """What the members find, averaged."""
        found: list[list[Candidate]] = [[] for _ in texts]
        for member in self.members:
            known = [(index, _read_or_none(member, text)) for index, text in enumerate(texts)]
            mine = [(index, reading) for index, reading in known if reading is not None]
            for (index, _), candidates in zip(mine, member.candidates([r for _, r in mine]), strict=True):
                found[index] += candidates
        return [merged([_shared(each, len(self.members)) for each in candidates]) for candidates in found]


def _read_or_none(member: Solver, text: str) -> Reading | None:
    try:
        return member.read(text)
    except UserError:
        return None


def _shared(candidate: Candidate, members: int) -> Candidate:
    return replace(candidate, probability=candidate.probability / members)
