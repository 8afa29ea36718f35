"""Runs that vote: averages of probabilities by value, whatever the members' layouts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from hanformer.arithmetic.expression import Number
from hanformer.arithmetic.solver import Candidate, Committee, Solver, decide, merged
from hanformer.arithmetic.training import make_layout, make_model
from hanformer.errors import UserError
from hanformer.tasks.serving import ServingOptions, open_service
from tests.arithmetic.tiny import RECIPE, tiny_data, tiny_run


def candidate(value: int, probability: float) -> Candidate:
    return Candidate(Number(Fraction(value)), str(value), Fraction(value), probability)


def member(order: str, beams: int = 3) -> Solver:
    recipe = replace(RECIPE, slots=replace(RECIPE.slots, order=order))
    layout = make_layout(recipe, tiny_data().train)
    return Solver(make_model(recipe, layout), layout, beams=beams)


def test_values_are_merged_and_ordered() -> None:
    found = merged([candidate(1, 0.2), candidate(2, 0.3), candidate(1, 0.25)])
    assert [(each.value, each.probability) for each in found] == [(1, pytest.approx(0.45)), (2, 0.3)]
    alone = merged([candidate(1, 0.2), candidate(2, 0.3), candidate(1, 0.25)], vote=False)
    assert [(each.value, each.probability) for each in alone] == [(2, 0.3), (1, 0.25)]


def test_a_committee_of_one_is_its_member() -> None:
    solver = member("prefix")
    texts = [problem.text for problem in tiny_data().train[:6]]
    assert Committee([solver, solver]).solve_all(texts) == Committee([solver]).solve_all(texts)
    assert solver.solve_all(texts) == Committee([solver]).solve_all(texts)


def test_probabilities_are_averaged_over_members_of_any_layout() -> None:
    members = [member("prefix"), member("infix", beams=2)]
    committee = Committee(members)
    for problem in tiny_data().train[:5]:
        votes: dict[Fraction, float] = {}
        for solver in members:
            for found in solver.candidates([solver.read(problem.text)])[0]:
                votes[found.value] = votes.get(found.value, 0.0) + found.probability / 2
        chosen = committee.solve(problem.text)
        assert votes[chosen.value] == pytest.approx(max(votes.values()))
        assert chosen.probability == pytest.approx(votes[chosen.value] / sum(votes.values()))


def test_nothing_to_choose_from() -> None:
    solver = member("prefix")
    reading = solver.read(tiny_data().train[0].text)
    assert decide("题", reading, []) is None
    with pytest.raises(UserError, match="at least one"):
        Committee([])
    with pytest.raises(UserError):
        Committee([solver]).solve("")


def test_runs_vote_by_option(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", updates=4)
    alone = open_service(run, ServingOptions(beams=2, precision="fp32"))
    twice = open_service(run, ServingOptions(beams=2, precision="fp32", beside=(run,)))
    texts = [problem.text for problem in tiny_data().train[:4]]
    assert alone.predict(texts) == twice.predict(texts)
