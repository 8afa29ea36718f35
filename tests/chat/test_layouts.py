"""Layouts by hand for 1 to 5 turns, with histories cut at whole turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.chat.layouts import (
    BORDER,
    Alternating,
    Laid,
    Prompt,
    Speakers,
    first_that_fits,
    layout_named,
    turns_that_fit,
)
from hanformer.errors import UserError
from hanformer.text.vocabulary import DEFAULT_SPECIALS, Vocabulary

C, S, A, B = 2, 3, 8, 9  # [CLS], [SEP], [speaker1], [speaker2]
TURNS = [[11, 12], [21], [31, 32], [41], [51]]
ALTERNATING, SPEAKERS = Alternating(C, S), Speakers(C, S, (A, B))


def laid(ids: list[int], segments: list[int], owners: list[int]) -> Laid:
    return Laid(tuple(ids), tuple(segments), tuple(owners))


@pytest.mark.parametrize("count", range(1, 6))
def test_alternating_segments(count: int) -> None:
    #             [CLS]  u1          [SEP] u2  [SEP] u3     [SEP] u4  [SEP] u5 [SEP]
    ids = [C, *[11, 12, S], *[21, S], *[31, 32, S], *[41, S], *[51, S]]
    segments = [0, *[0, 0, 0], *[1, 1], *[0, 0, 0], *[1, 1], *[0, 0]]
    owners = [BORDER, *[0, 0, 0], *[1, 1], *[2, 2, 2], *[3, 3], *[4, 4]]
    end = [4, 6, 9, 11, 13][count - 1]
    assert ALTERNATING.lay(TURNS[:count]) == laid(ids[:end], segments[:end], owners[:end])
    found = ALTERNATING.prompt(TURNS[:count])
    assert found == Prompt(tuple(ids[:end]), tuple(segments[:end]), count % 2)


def test_speakers_by_hand() -> None:
    assert SPEAKERS.lay(TURNS[:1]) == laid([C, A, 11, 12, S], [C, A, A, A, A], [-1, -1, 0, 0, 0])
    assert SPEAKERS.lay(TURNS[:2]) == laid(
        [C, A, 11, 12, B, 21, S], [C, A, A, A, B, B, B], [-1, -1, 0, 0, -1, 1, 1]
    )
    assert SPEAKERS.lay(TURNS[:5]) == laid(
        [C, A, 11, 12, B, 21, A, 31, 32, B, 41, A, 51, S],
        [C, A, A, A, B, B, A, A, A, B, B, A, A, A],
        [-1, -1, 0, 0, -1, 1, -1, 2, 2, -1, 3, -1, 4, 4],
    )
    assert SPEAKERS.prompt(TURNS[:2]) == Prompt((C, A, 11, 12, B, 21, A), (C, A, A, A, B, B, A), A)
    assert SPEAKERS.prompt(TURNS[:1]) == Prompt((C, A, 11, 12, B), (C, A, A, A, B), B)


@pytest.mark.parametrize("layout", [ALTERNATING, SPEAKERS])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_cut_history_keeps_its_speakers(layout: Alternating | Speakers, first: int) -> None:
    """The reply has the speaker that the last turn has not, whatever was left out; kept turns keep theirs."""
    whole, cut = layout.prompt(TURNS[:3]), layout.prompt(TURNS[first:3], first)
    assert cut.reply_segment == whole.reply_segment != layout.prompt(TURNS[:2]).reply_segment
    behind = len(cut.ids) - 1
    assert cut.ids[1:] == whole.ids[-behind:] and cut.segments[1:] == whole.segments[-behind:]
    assert (cut.ids[0], cut.segments[0]) == (whole.ids[0], whole.segments[0])


@pytest.mark.parametrize("layout", [ALTERNATING, SPEAKERS])
@given(lengths=st.lists(st.integers(1, 9), max_size=8), room=st.integers(0, 40))
def test_whole_turns_fit(layout: Alternating | Speakers, lengths: list[int], room: int) -> None:
    """Beside the naive search: as many whole turns as fit, from either end, and never one more."""
    turns = [[7] * length for length in lengths]
    sizes = [len(layout.prompt(turns[:count]).ids) for count in range(len(turns) + 1)]
    expected = max([0, *(count for count, size in enumerate(sizes) if size <= room)])
    assert turns_that_fit(lengths, layout, room) == expected
    rest = [len(layout.prompt(turns[first:], first).ids) for first in range(len(turns))]
    first = first_that_fits(lengths, layout, room)
    assert first == next((place for place, size in enumerate(rest) if size <= room), len(turns))


def test_layouts_are_named() -> None:
    words = Vocabulary([*DEFAULT_SPECIALS.names(), "[speaker1]", "[speaker2]"])
    assert layout_named("alternating", words) == Alternating(2, 3)
    assert layout_named("speakers", words) == Speakers(2, 3, (5, 6))
    with pytest.raises(UserError, match=r"\[speaker1\] and \[speaker2\]"):
        layout_named("speakers", Vocabulary(DEFAULT_SPECIALS.names()))
    with pytest.raises(UserError, match="expected one of alternating, speakers"):
        layout_named("nezha", words)
