"""Dialogues as ids and batches, beside a naive form that works on padded lists."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.chat.dialogues import EncodedDialogues, utterance_ids
from hanformer.chat.layouts import Alternating, DialogueLayout, Speakers, layout_named
from hanformer.tasks.text_recipe import make_tokenizer
from tests.chat.talks import RECIPE, TALKS

TOKENIZER = make_tokenizer(RECIPE, [turn for turns in TALKS for turn in turns], ("[speaker1]", "[speaker2]"))
ALTERNATING = layout_named("alternating", TOKENIZER.vocabulary)
SPEAKERS = layout_named("speakers", TOKENIZER.vocabulary)
CHARACTERS = "你好呀去哪里山上今天下雨那就在家吃了吗的什么"
DIALOGUES = st.lists(
    st.lists(st.text(CHARACTERS, min_size=1, max_size=5), min_size=2, max_size=5).map(tuple),
    min_size=1,
    max_size=4,
)


def encoded(
    dialogues: object, layout: DialogueLayout, learn: str = "replies", longest: int = 99
) -> EncodedDialogues:
    return EncodedDialogues.of(dialogues, TOKENIZER, layout, learn=learn, longest=longest)  # type: ignore[arg-type]


@given(DIALOGUES, st.sampled_from(["replies", "all", "last"]))
def test_alternating_learns_all_of_its_turns_at_once(dialogues: list[tuple[str, ...]], learn: str) -> None:
    """Labels are the inputs shifted by one, where the turn is learned."""
    found = encoded(dialogues, ALTERNATING, learn)
    batch = found.collate(range(len(found)), Random(0))
    assert found.lengths() == list(batch.layout.lengths)
    ids, segments, labels = [], [], []
    for turns in dialogues:
        row = ["[CLS]", *(token for turn in turns for token in (*turn, "[SEP]"))]
        parity = [0, *(number % 2 for number, turn in enumerate(turns) for _ in (*turn, 0))]
        first = {"all": 0, "replies": 1, "last": len(turns) - 1}[learn]
        silent = sum(len(turn) + 1 for turn in turns[:first])
        ids += row[:-1]
        segments += parity[:-1]
        labels += [None] * silent + row[1 + silent :]
    assert TOKENIZER.vocabulary.tokens_of(batch.token_ids.tolist()) == ids
    assert batch.layout.segments.tolist() == segments
    assert batch.predictors.tolist() == [place for place, label in enumerate(labels) if label is not None]
    assert TOKENIZER.vocabulary.tokens_of(batch.labels.tolist()) == [each for each in labels if each]


@given(DIALOGUES)
def test_speakers_learn_each_reply_alone(dialogues: list[tuple[str, ...]]) -> None:
    found = encoded(dialogues, SPEAKERS)
    prefixes = [turns[:count] for turns in dialogues for count in range(2, len(turns) + 1)]
    assert len(found) == len(prefixes) and found.left_out == 0
    for place, turns in enumerate(prefixes):
        batch = found.collate([place], Random(0))
        assert batch.layout.lengths == (found.lengths()[place],)
        tokens = TOKENIZER.vocabulary.tokens_of(batch.labels.tolist())
        assert tokens == [*turns[-1], "[SEP]"]
        speaker = TOKENIZER.vocabulary.tokens_of([int(batch.token_ids[batch.predictors[0]])])
        assert speaker == [f"[speaker{2 - len(turns) % 2}]"]
    assert len(encoded(dialogues, SPEAKERS, "last")) == len(dialogues)


@pytest.mark.parametrize("layout", [ALTERNATING, SPEAKERS])
def test_turns_beyond_the_bound_are_left_out(layout: Alternating | Speakers) -> None:
    turns = ("你好", "好呀", "去哪里", "去山上")
    whole = layout.opening + sum(len(turn) + 1 for turn in turns)
    for longest, kept in (
        (whole, 4),
        (whole - 1, 3),
        (whole - 4, 3),
        (whole - 5, 2),
        (layout.opening + 6, 2),
    ):
        found = encoded([turns], layout, "last", longest)
        assert [len(found.turns(place)) for place in range(len(found))] == [kept]
    none = encoded([turns, ("你好",)], layout, "last", layout.opening + 5)
    assert (len(none), none.left_out) == (0, 2)


def test_borders_in_the_text_are_no_borders() -> None:
    """Someone who writes [SEP] or [speaker2] ends no turn; signs alone are no utterance."""
    assert utterance_ids(TOKENIZER, "你[SEP]好[speaker2][CLS]") == utterance_ids(TOKENIZER, "你好")
    found = encoded([("你好", "[SEP]"), ("你好", "好[SEP]")], ALTERNATING)
    assert (len(found), found.left_out) == (1, 1)
    unknown = utterance_ids(TOKENIZER, "龘")
    assert unknown == [TOKENIZER.vocabulary.unk_id]
