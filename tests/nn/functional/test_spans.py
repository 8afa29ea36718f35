"""Spans of distances, and the windows that near ones are computed with, against sets of numbers."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.nn.functional.groups import Windows
from hanformer.nn.functional.spans import BEHIND, EVERYWHERE, FAR, Span, meet, simplify

ends = st.integers(-9, 9)
spans = st.builds(
    lambda low, high, stride: Span(min(low, high), max(low, high), stride),
    st.one_of(ends, st.just(-FAR)),
    st.one_of(ends, st.just(FAR)),
    st.integers(1, 4),
)
OFFSETS = torch.arange(-40, 41)


def offsets(chosen: tuple[Span, ...] | list[Span], longest: int = 41) -> set[int]:
    """The offsets of rows of at most that many tokens that lie in one of the spans."""
    inside = torch.zeros_like(OFFSETS, dtype=torch.bool)
    for span in chosen:
        inside |= span.contains(OFFSETS)
    return set(OFFSETS[inside & (OFFSETS.abs() < longest)].tolist())


@settings(deadline=None, derandomize=True)
@given(st.lists(spans, max_size=4), st.lists(spans, max_size=4), st.integers(1, 41))
def test_meeting_and_simplifying_keep_the_offsets(
    first: list[Span], second: list[Span], longest: int
) -> None:
    assert offsets(meet(first, second)) == offsets(first) & offsets(second)
    simple = simplify(first, longest)
    assert offsets(simple, longest) == offsets(first, longest)
    assert [span.bounded for span in simple] == sorted(span.bounded for span in simple)
    assert not any(a.covers(b) for a in simple for b in simple if a is not b)


def test_limits() -> None:
    assert simplify([Span(-9, 9)], 10) == (EVERYWHERE,) and simplify([Span(-9, 9)], 11) == (Span(-9, 9),)
    assert simplify([Span(-9, 0)], 10) == (BEHIND,)
    assert simplify([Span(stride=2), Span(-3, 3), Span(-1, 2), Span(stride=4)], 99) == (
        Span(stride=2),
        Span(-3, 3),
    )
    assert meet([Span(-3, 3)], [BEHIND]) == (Span(-3, 0),) and meet([Span(1, 3)], [BEHIND]) == ()


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 9), st.integers(-6, 6))
def test_windows_by_definition(count: int, step: int, length: int, shift: int) -> None:
    rows = -(-count // step)
    windows = Windows(rows, length, slice(2, 2 + count), step, shift)
    values = torch.arange(1, count + 5)
    own = values[2 : 2 + count].tolist()
    expected = [
        [own[place] if 0 <= (place := row * step + shift + key) < count else 0 for key in range(length)]
        for row in range(rows)
    ]
    assert windows.fill(values).tolist() == expected
    assert windows.real().tolist() == [[bool(value) for value in row] for row in expected]
    gathered = windows.gather(values[2 : 2 + count, None, None].expand(-1, 2, 3))
    assert gathered.shape == (rows, 2, length, 3) and gathered[:, 1, :, 2].tolist() == expected
