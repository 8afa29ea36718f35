"""Learning-rate schedules as pure functions: a multiplier of the base rate for each update.

Updates are counted from 0, and every rule counts updates, never micro-batches.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from hanformer.errors import UserError

DECAYS = ("constant", "linear", "cosine")
Knots = Sequence[tuple[float, float]]


def piecewise_linear(knots: Knots, position: float) -> float:
    """The line through `knots`, pairs (position, value), at `position`; constant beyond both ends.

    分段线性插值；两端之外保持常数，若首个结点在 0 之后，则从 (0, 0) 起。

    Where the first knot lies after 0, the line starts from (0, 0): [(1000, 1)] is a warm-up of 1000 updates, whose
    update 0 has the rate 0; [(-1, 0), (999, 1)] is the same without that idle update.
    Raises UserError for knots that are empty or not in rising order. Source: kexue.fm/archives/7094.
    """
    positions = [knot[0] for knot in knots]
    if not positions or any(later <= earlier for earlier, later in pairwise(positions)):
        raise UserError(f"schedule knots: expected at least one, at rising positions, got {list(knots)}")
    if positions[0] > 0:
        return piecewise_linear([(0.0, 0.0), *knots], position)
    right = bisect_right(positions, position)
    if right == 0:
        return knots[0][1]
    if right == len(knots):
        return knots[-1][1]
    (start, low), (stop, high) = knots[right - 1], knots[right]
    return low + (high - low) * (position - start) / (stop - start)


def warm_up(update: int, updates: int) -> float:
    """min(1, (update + 1) / updates): the first update already moves, update `updates` - 1 has the full rate.

    线性预热；第一步的学习率不为零。
    """
    return piecewise_linear([(-1, 0.0), (updates - 1, 1.0)], update) if updates else 1.0


def decay(kind: str, fraction: float, final: float = 0.0) -> float:
    """The multiplier after `fraction` (0 to 1) of the decaying part, going from 1 to `final`.

    衰减因子：从 1 降到 final。

    constant: 1; linear: 1 + (final - 1) f; cosine: final + (1 - final)(1 + cos(pi f)) / 2.
    Raises UserError for another word.
    """
    fraction = min(max(fraction, 0.0), 1.0)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return piecewise_linear([(0.0, 1.0), (1.0, final)], fraction)
    if kind == "cosine":
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * fraction))
    raise UserError(f"schedule: expected one of {', '.join(DECAYS)}, got {kind!r}")


def warm_up_then_decay(
    kind: str, update: int, updates: int, *, warm_up_updates: int = 0, final: float = 0.0
) -> float:
    """Linear warm-up over `warm_up_updates`, then the decay over the rest of `updates`.

    先线性预热，再按所选方式衰减。

    The last update (`updates` - 1) still has a rate above `final`, so no update is spent at rate zero.
    """
    rest = max(updates - warm_up_updates, 1)
    return warm_up(update, warm_up_updates) * decay(kind, (update - warm_up_updates) / rest, final)
