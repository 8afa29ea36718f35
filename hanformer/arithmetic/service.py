"""A run that solves word problems, as `evaluate` and `predict` use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hanformer.arithmetic.data_sets import GENERATED, all_problems, problems_to_judge
from hanformer.arithmetic.evaluation import evaluate
from hanformer.arithmetic.overlap import without_copies
from hanformer.arithmetic.recipe import description_of
from hanformer.arithmetic.report import accuracy_table, judged_rows
from hanformer.arithmetic.solver import Committee
from hanformer.arithmetic.splits import is_training_file, read_split
from hanformer.arithmetic.training import load_solver
from hanformer.errors import UserError
from hanformer.tasks.serving import Evaluated, Service, ServingOptions
from hanformer.train.runs import run_of


class ArithmeticService(Service):
    """Solves problems: the answer is the expression and its exact value. 解应用题。

    `trained_on` names the data that the solvers were trained on.
    """

    def __init__(self, solver: Committee, trained_on: Sequence[str] = ()) -> None:
        self.solver, self.trained_on = solver, trained_on

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Accuracy on the tests of a data set, in all and by type; `without` leaves out copies of another set's.

        按测试集与题型给出正确率。
        """
        tables, rows, figures = [], [], {}
        if (warning := self._warning(data)) is not None:
            tables.append(warning)
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

    def _warning(self, data: str) -> str | None:
        """What a reader of the figures must know where all of the judged problems, or most, were learned from."""
        if data == GENERATED or not any(_holds(learned, data) for learned in self.trained_on):
            return None
        return f"careful: {data} was trained on (but for what was held out to choose by): memory, no skill\n"

    def _how(self) -> str:
        members = len(self.solver.members)
        voting = f", {members} runs voting" if members > 1 else ""
        alone = "" if self.solver.vote or self.solver.beams == 1 else ", without voting by value"
        return f"beam {self.solver.beams}{voting}{alone}"

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """Expression and answer of each problem. 算式与答案。"""
        return [
            solution if isinstance(solution, UserError) else f"{solution.expression} = {solution.answer}"
            for solution in self.solver.solve_all(texts)
        ]


def open_service(run: Path, options: ServingOptions) -> ArithmeticService:
    """The solver of a run, and of those that vote with it. Raises UserError as `load_solver` does. 打开解题模型。"""
    runs = (run, *options.beside)
    committee = Committee(
        [
            load_solver(
                each,
                beams=options.beams,
                device=options.device,
                precision=options.precision,
                vote=options.vote,
            )
            for each in runs
        ]
    )
    return ArithmeticService(committee, [str(description_of(run_of(each))["data"]) for each in runs])


def _holds(learned: str, judged: str) -> bool:
    """Whether all of the judged file was to be learned from: the file itself, or one of the folder that is no test."""
    place, folder = Path(judged).resolve(), Path(learned).resolve()
    if place.is_dir():
        return place == folder and not read_split(place).test
    return place == folder or (place.parent == folder and is_training_file(place.name))
