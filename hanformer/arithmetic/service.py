"""A run that solves word problems, as `evaluate` and `predict` use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hanformer.arithmetic.data_sets import all_problems, problems_to_judge
from hanformer.arithmetic.evaluation import evaluate
from hanformer.arithmetic.overlap import without_copies
from hanformer.arithmetic.report import accuracy_table, judged_rows
from hanformer.arithmetic.solver import Committee
from hanformer.arithmetic.training import load_solver
from hanformer.errors import UserError
from hanformer.tasks.serving import Evaluated, ServingOptions


class ArithmeticService:
    """Solves problems: the answer is the expression and its exact value. 解应用题。"""

    def __init__(self, solver: Committee) -> None:
        self.solver = solver

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Accuracy on the tests of a data set, in all and by type; `without` leaves out copies of another set's.

        按测试集与题型给出正确率。
        """
        tables, rows, figures = [], [], {}
        seen = [] if without is None else all_problems(without)
        for title, problems in problems_to_judge(data).items():
            problems = without_copies(problems, seen)
            if not problems:
                raise UserError(f"{title}: no problem is left to judge on; choose other data for --without")
            evaluation = evaluate(self.solver, problems)
            tables.append(accuracy_table(f"{title}, {self._how()}", evaluation))
            rows += [json.loads(row) for row in judged_rows(title, evaluation)]
            figures[title] = evaluation.score.accuracy
        return Evaluated("\n".join(tables), figures, rows)

    def _how(self) -> str:
        members = len(self.solver.members)
        return f"beam {self.solver.beams}" + (f", {members} runs voting" if members > 1 else "")

    def predict(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """Expression and answer of each problem. 算式与答案。"""
        return [
            solution if isinstance(solution, UserError) else f"{solution.expression} = {solution.answer}"
            for solution in self.solver.solve_all(texts)
        ]


def open_service(run: Path, options: ServingOptions) -> ArithmeticService:
    """The solver of a run, and of those that vote with it. Raises UserError as `load_solver` does. 打开解题模型。"""
    runs = (run, *options.beside)
    return ArithmeticService(
        Committee(
            [
                load_solver(each, beams=options.beams, device=options.device, precision=options.precision)
                for each in runs
            ]
        )
    )
