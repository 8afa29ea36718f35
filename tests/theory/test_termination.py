"""The curve against its definition and the geometric law."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hanformer.decode import Sample, generate, table_prompt, table_step
from hanformer.errors import UserError
from hanformer.theory.termination import unfinished_curve


@given(st.lists(st.none() | st.integers(1, 9), min_size=1), st.lists(st.integers(0, 10)))
def test_is_the_share_by_definition(ends: list[int | None], lengths: list[int]) -> None:
    expected = [sum(end is None or end > length for end in ends) / len(ends) for length in lengths]
    assert unfinished_curve(ends, lengths) == pytest.approx(expected)


def test_sampling_follows_the_geometric_law() -> None:
    table = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    logits, state = table_prompt(table, [[0]] * 40)
    rule = Sample(seed=2, samples=100)
    found = generate(
        table_step(table), state, logits, rule=rule, end_id=1, maximum_length=12, minimum_length=0
    )
    ends = [len(each.tokens) + 1 if each.finished else None for rows in found for each in rows]
    curve = unfinished_curve(ends, range(1, 13))
    for length, share in enumerate(curve, start=1):
        law = 0.9**length
        assert abs(share - law) < 4 * math.sqrt(law * (1 - law) / len(ends))
    with pytest.raises(UserError, match="none"):
        unfinished_curve([], [1])
