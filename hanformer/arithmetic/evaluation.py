"""How many problems are solved: the accuracy of answers, in all and by type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hanformer.arithmetic.answers import parse_answer
from hanformer.arithmetic.cleaning import is_right
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.solver import Solution, Solving
from hanformer.errors import UserError


@dataclass(frozen=True)
class Judged:
    """A problem, what the model made of it, and whether the answer is right. 一道题的判定结果。"""

    problem: Problem
    solution: Solution | None
    right: bool


@dataclass(frozen=True)
class Score:
    """Right answers out of all. 得分。"""

    right: int
    total: int

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1; 0 where there are no problems."""
        return self.right / self.total if self.total else 0.0


@dataclass(frozen=True)
class Evaluation:
    """The judgement of many problems. 一组题的评测。"""

    judged: Sequence[Judged]

    @property
    def score(self) -> Score:
        """Over all problems: those that could not be read or solved count as wrong."""
        return Score(sum(row.right for row in self.judged), len(self.judged))

    def by_kind(self) -> dict[str, Score]:
        """Scores by type of problem, in order of first appearance; empty where types are not known."""
        kinds: dict[str, list[bool]] = {}
        for row in self.judged:
            if row.problem.kind:
                kinds.setdefault(row.problem.kind, []).append(row.right)
        return {kind: Score(sum(rights), len(rights)) for kind, rights in kinds.items()}


def evaluate(solver: Solving, problems: Sequence[Problem]) -> Evaluation:
    """Solves the problems and compares values: right = equal to 6 decimals, or to a relative 1e-4.

    解题并比较答案：六位小数相等或相对误差不超过 1e-4 即为正确。

    A problem that cannot be read, solved or compared counts as wrong: the denominator is always all of them.
    """
    solutions = solver.solve_all([problem.text for problem in problems])
    judged = []
    for problem, solution in zip(problems, solutions, strict=True):
        found = None if isinstance(solution, UserError) else solution
        judged.append(Judged(problem, found, found is not None and _right(problem, found)))
    return Evaluation(judged)


def _right(problem: Problem, solution: Solution) -> bool:
    if problem.answer is None:
        return False
    try:
        return is_right(solution.value, parse_answer(problem.answer))
    except UserError:
        return False
