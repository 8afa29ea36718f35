"""A conversation is taken back, saved and opened again; what is none is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.chat import Conversation
from hanformer.chat.conversation import open_conversation
from hanformer.errors import UserError

TURN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@settings(max_examples=15)
@given(st.lists(st.tuples(TURN, TURN), max_size=5))
def test_what_was_saved_comes_back(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    talk = Conversation()
    for utterance, reply in pairs:
        before, talk = talk, talk.answered(utterance, reply)
        assert talk.undone() == before
    path = tmp_path_factory.mktemp("talk") / "talk.json"
    talk.save(path)
    assert open_conversation(path) == talk and len(talk.turns) == 2 * len(pairs)


def test_one_text_is_no_conversation() -> None:
    with pytest.raises(UserError, match="holds turns, got one text"):
        Conversation("你好")  # type: ignore[arg-type]


def test_nothing_to_take_back() -> None:
    with pytest.raises(UserError, match="nothing to take back"):
        Conversation().undone()
    with pytest.raises(UserError, match="no reply"):
        Conversation(("你好",))


GOOD = {"kind": "hanformer conversation", "version": 1, "turns": ["你好", "好呀"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "no JSON"),
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "another file"),
        (json.dumps({**GOOD, "kind": "bert"}).encode(), "another file"),
        (json.dumps({**GOOD, "version": 2}).encode(), "version 1, got 2"),
        (json.dumps({**GOOD, "turns": "你好"}).encode(), "expected a list of texts"),
        (json.dumps({**GOOD, "turns": ["你好", 3]}).encode(), "expected a list of texts"),
        (json.dumps({**GOOD, "turns": ["你好", " "]}).encode(), "expected a list of texts"),
        (json.dumps({**GOOD, "turns": ["你好"]}).encode(), "no reply"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "talk.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as refused:
        open_conversation(path)
    assert str(path) in str(refused.value)


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        open_conversation(tmp_path / "none.json")
    with pytest.raises(UserError):
        Conversation().save(tmp_path)
