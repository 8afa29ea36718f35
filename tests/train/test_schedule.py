from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.train.schedule import decay, piecewise_linear, warm_up, warm_up_then_decay


def test_piecewise_linear_table() -> None:
    knots = [(1000, 1.0), (2000, 0.1)]
    table = [(0, 0.0), (250, 0.25), (1000, 1.0), (1500, 0.55), (2000, 0.1), (9000, 0.1)]
    for position, expected in table:
        assert piecewise_linear(knots, position) == pytest.approx(expected)


def test_a_knot_at_zero_or_before_replaces_the_origin() -> None:
    assert [piecewise_linear([(0, 0.4), (10, 1.0)], at) for at in (-3, 0, 5, 10)] == [0.4, 0.4, 0.7, 1.0]
    assert [piecewise_linear([(-1, 0.0), (3, 1.0)], at) for at in (-1, 0, 3)] == [0.0, 0.25, 1.0]
    assert [piecewise_linear([(0, 1.0)], at) for at in (0, 7)] == [1.0, 1.0]


@settings(deadline=None, derandomize=True)
@given(
    values=st.dictionaries(st.integers(0, 60), st.floats(0, 2), min_size=1, max_size=6),
    position=st.floats(0, 80),
)
def test_piecewise_linear_equals_numpy(values: dict[int, float], position: float) -> None:
    knots = sorted(values.items())
    table = sorted({0: 0.0, **values}.items())
    expected = np.interp(position, [at for at, _ in table], [value for _, value in table])
    assert piecewise_linear(knots, position) == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("knots", [[], [(1, 1.0), (1, 2.0)], [(2, 1.0), (1, 2.0)]])
def test_piecewise_linear_refuses(knots: list[tuple[float, float]]) -> None:
    with pytest.raises(UserError, match="rising"):
        piecewise_linear(knots, 0)


def test_linear_warm_up_and_decay_by_hand() -> None:
    values = [warm_up_then_decay("linear", u, 6, warm_up_updates=2) for u in range(6)]
    assert values == pytest.approx([0.5, 1.0, 1.0, 0.75, 0.5, 0.25])


def test_cosine_and_constant_by_hand() -> None:
    assert warm_up_then_decay("cosine", 5, 10) == pytest.approx(0.5)
    assert warm_up_then_decay("cosine", 10, 10, final=0.1) == pytest.approx(0.1)
    assert decay("cosine", 1 / 3) == pytest.approx((1 + math.cos(math.pi / 3)) / 2)
    assert warm_up_then_decay("constant", 9, 10, warm_up_updates=4) == 1.0


def test_unknown_decay() -> None:
    with pytest.raises(UserError, match="constant, linear, cosine"):
        decay("exponential", 0.5)


@given(
    kind=st.sampled_from(["linear", "cosine", "constant"]),
    updates=st.integers(1, 300),
    share=st.floats(0, 1),
    final=st.floats(0, 1),
)
def test_every_update_moves_and_none_exceeds_the_rate(
    kind: str, updates: int, share: float, final: float
) -> None:
    warm = int(updates * share)
    values = [warm_up_then_decay(kind, u, updates, warm_up_updates=warm, final=final) for u in range(updates)]
    assert all(0 < value <= 1 + 1e-12 for value in values)
    assert values[warm - 1] == pytest.approx(1.0) or warm == 0
    assert all(
        later <= earlier + 1e-12 for earlier, later in zip(values[warm:], values[warm + 1 :], strict=False)
    )


def test_no_warm_up_is_one() -> None:
    assert warm_up(0, 0) == 1.0
