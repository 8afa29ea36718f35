"""A session: utterances, commands, and replies that are cut short."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.chat.opening import OpenedChat
from hanformer.chat.replies import Replier
from hanformer.chat.session import HELP, Session, is_command, said
from hanformer.errors import UserError


@pytest.fixture
def session(talker: OpenedChat) -> Session:
    return Session(talker.replier(talker.options({"rule": "greedy"}, plain=True)))


def test_a_whole_talk(session: Session, tmp_path: Path) -> None:
    assert "".join(session.say("你好 ")) == "好呀"
    assert "".join(session.say("去哪里")) == "去山上"
    assert session.conversation.turns == ("你好", "好呀", "去哪里", "去山上")
    path = tmp_path / "a talk.json"
    assert session.command(f"/save {path}") == f"{path}: 4 turns"
    assert session.command("/undo") == "taken back; 2 turns are left"
    assert session.conversation.turns == ("你好", "好呀")
    session.command("/reset")
    assert session.conversation.turns == ()
    assert session.command(f"/load {path}") == f"{path}: 4 turns"
    assert session.conversation.turns[-1] == "去山上"
    assert all(f"\n{command}" in f"\n{HELP}" for command in session._commands)
    assert not session.over and session.command("/quit") == "" and session.over


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("/undo", "nothing to take back"),
        ("/undo 3", "takes nothing behind it"),
        ("/save", "needs the name of a file"),
        ("/load", "needs the name of a file"),
        ("/load none.json", "cannot be read"),
        ("/dance", "/dance: unknown command"),
    ],
)
def test_commands_that_cannot_be_done(session: Session, line: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        session.command(line)
    assert session.conversation.turns == () and not session.over


def test_a_reply_cut_short_counts_as_far_as_it_was_said(session: Session) -> None:
    list(session.say("你好"))
    pieces = session.say("去哪里")
    assert next(pieces) == "去"
    pieces.close()
    assert session.conversation.turns[2:] == ("去哪里", "去")
    silent = session.say("你好")
    silent.close()
    assert len(session.conversation.turns) == 4


def test_what_cannot_be_said_leaves_no_trace(session: Session) -> None:
    with pytest.raises(UserError, match="empty"):
        list(session.say("  "))
    with pytest.raises(UserError, match="shorten it"):
        list(session.say("好" * 40))
    assert session.conversation.turns == ()
    list(session.say("你好"))
    assert len(session.conversation.turns) == 2


def test_after_undo_it_draws_anew(talker: OpenedChat) -> None:
    session = Session(talker.replier(talker.options({"temperature": 3.0})))
    found = set()
    for _ in range(6):
        found.add("".join(session.say("你好")))
        session.command("/undo")
    assert len(found) > 1


class Echo:
    """Stands for a replier: says the history's length, a character a piece."""

    def stream(self, history: tuple[str, ...], *, number: int) -> Iterator[str]:
        yield from f"{len(history):03}"


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.text("好坏", min_size=1, max_size=3)),
        st.tuples(st.just("cut"), st.integers(0, 2)),
        st.tuples(st.sampled_from(["/undo", "/reset"]), st.none()),
    ),
    max_size=12,
)


@given(ACTS)
def test_any_course_of_a_talk(acts: list[tuple[str, object]]) -> None:
    """Beside a plain list of turns: said, cut short after some pieces, taken back, begun anew."""
    session, expected = Session(cast(Replier, Echo())), []
    for what, given_ in acts:
        if what == "say":
            expected += [given_, "".join(session.say(str(given_)))]
            assert expected[-1] == f"{len(expected) - 1:03}"
        elif what == "cut":
            pieces = session.say("好")
            said_ = "".join(islice(pieces, cast(int, given_)))
            pieces.close()
            expected += ["好", said_] if said_ else []
        elif what == "/undo" and not expected:
            with pytest.raises(UserError):
                session.command(what)
        else:
            session.command(what)
            expected = expected[:-2] if what == "/undo" else []
        assert list(session.conversation.turns) == expected


def test_lines() -> None:
    assert is_command(" /undo") and not is_command("//undo") and not is_command("好/undo")
    assert said("//undo ") == "/undo" and said(" 你好") == "你好"
