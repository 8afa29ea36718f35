"""Measuring: sides of a case run in turns, and wall time, CPU time and page faults of each round are kept."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hanformer.errors import UserError


class Difference(UserError):
    """The sides of a benchmark do not compute the same, so there is nothing to compare.

    各方输出不一致，比较没有意义。
    """


@dataclass(frozen=True)
class Side:
    """One contender: its name, and one round of its work.

    参赛一方：名称与一轮的工作。
    """

    name: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Case:
    """The same work for several sides, ours first.

    同一项工作的各方，我方在前。

    `amount` is what one round of any side works off, in `unit` (tokens, steps). `per_second` chooses the form
    of the table: amount per second, or milliseconds for each. `check` compares the outputs before anything is
    timed: it raises Difference, or returns one line that says what was found equal.
    """

    name: str
    unit: str
    amount: float
    per_second: bool
    sides: Sequence[Side]
    check: Callable[[], str]

    def rate(self, seconds: float) -> float:
        """Units per second, or milliseconds a unit."""
        return self.amount / seconds if self.per_second else 1000 * seconds / self.amount

    @property
    def rate_unit(self) -> str:
        """tokens/s, or ms/step."""
        return f"{self.unit}s/s" if self.per_second else f"ms/{self.unit}"


@dataclass(frozen=True)
class Round:
    """What one round of one side cost: seconds of wall time and of CPU time (all threads), page faults."""

    wall: float
    cpu: float
    faults: int


@dataclass(frozen=True)
class Result:
    """The rounds of one side of one case under one allocator setting.

    某一方在某一设置下的全部轮次。

    The ratios are, round by round, the seconds of this side over those of the first side (ours), which ran beside
    it: 2 says that ours was twice as fast.
    """

    case: str
    side: str
    allocator: str
    rate_unit: str
    rates: tuple[float, ...]
    rounds: tuple[Round, ...]
    time_ratios: tuple[float, ...]
    cpu_ratios: tuple[float, ...]

    @property
    def rate(self) -> float:
        """The median rate."""
        return statistics.median(self.rates)

    @property
    def cpu(self) -> float:
        """Median CPU-seconds of a round."""
        return statistics.median(round_.cpu for round_ in self.rounds)

    @property
    def time_ratio(self) -> float:
        """The median ratio of wall time within a round: what ran side by side met the same load."""
        return statistics.median(self.time_ratios)

    @property
    def cpu_ratio(self) -> float:
        """The median ratio of CPU time within a round."""
        return statistics.median(self.cpu_ratios)


def measure(case: Case, rounds: int, allocator: str) -> list[Result]:
    """One unmeasured round of each side, then `rounds` in turns; every other round goes backwards.

    各方交错计时，先预热一轮。

    The garbage collector runs between rounds and not within them. Raises UserError for less than one round.
    """
    if rounds < 1:
        raise UserError(f"rounds: expected at least 1, got {rounds}")
    sides = list(case.sides)
    for side in sides:
        side.run()
    taken: dict[str, list[Round]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            taken[side.name].append(time_once(side.run))
    ours = taken[sides[0].name]
    return [
        Result(
            case.name,
            side.name,
            allocator,
            case.rate_unit,
            tuple(case.rate(round_.wall) for round_ in taken[side.name]),
            tuple(taken[side.name]),
            tuple(theirs.wall / own.wall for own, theirs in zip(ours, taken[side.name], strict=True)),
            tuple(
                theirs.cpu / max(own.cpu, 1e-9) for own, theirs in zip(ours, taken[side.name], strict=True)
            ),
        )
        for side in sides
    ]


def time_once(run: Callable[[], object]) -> Round:
    """Wall time, CPU time and page faults of one call. 计量一次调用。"""
    gc.collect()
    gc.disable()
    try:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Round(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
    finally:
        gc.enable()
