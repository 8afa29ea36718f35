"""Windows over long texts: nothing lost, offsets of the whole, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from hanformer.errors import UserError
from hanformer.text.protocols import Pieces
from hanformer.text.sentencepiece_kinds import KINDS, PLAIN
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.windows import pair_windows, windows
from hanformer.text.wordpiece import WordPieceTokenizer
from tests.text.sentencepiece_material import MAKES, model

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天气不错，ab"]
TOKENIZER = WordPieceTokenizer(Vocabulary(TOKENS))
texts = st.text(st.sampled_from("今天气不错， ab龘"), max_size=60)

MADE = {make: SentencePieceTokenizer(model(make), KINDS.get(make, PLAIN)) for make in MAKES if make != "cpm"}
written = st.text(st.sampled_from("今天 气，the cat龘"), max_size=30)


@given(text=texts, room=st.integers(1, 12), data=st.data())
def test_windows_hold_every_token_at_its_place(text, room, data):
    stride = data.draw(st.integers(1, room))
    whole = TOKENIZER.encode(text)
    found = windows(TOKENIZER, text, room + 2, stride)
    covered = 0
    for number, window in enumerate(found):
        inside = len(window) - 2
        start = 1 + number * stride
        assert 0 <= inside <= room and not window.truncated
        assert start <= 1 + covered, "a token between two windows"
        assert window.ids == [whole.ids[0], *whole.ids[start : start + inside], whole.ids[-1]]
        assert window.offsets[1:-1] == whole.offsets[start : start + inside]
        assert window.tokens == TOKENIZER.vocabulary.tokens_of(window.ids) and set(window.segments) == {0}
        covered = number * stride + inside
    assert covered == len(whole) - 2
    assert len(found) == 1 or (len(found) - 2) * stride + room < covered, "a window too many"


@given(text=texts, room=st.integers(2, 12), data=st.data())
def test_windows_are_those_of_the_library(text, room, data):
    shared = data.draw(st.integers(0, room - 1))
    theirs = BertWordPieceTokenizer({token: number for number, token in enumerate(TOKENS)})
    theirs.enable_truncation(room + 2, stride=shared)
    first = theirs.encode(text)
    ours = windows(TOKENIZER, text, room + 2, room - shared)
    assert [window.ids for window in ours] == [part.ids for part in (first, *first.overflowing)]
    assert [window.offsets for window in ours] == [part.offsets for part in (first, *first.overflowing)]


@given(first=texts, second=texts, room=st.integers(1, 9))
def test_pair_windows_repeat_the_first_text_and_slide_over_the_second(first, second, room):
    whole = TOKENIZER.encode_pair(first, second)
    left = len(TOKENIZER.encode(first))
    found = pair_windows(TOKENIZER, first, second, left + room + 1, room)
    assert [number for window in found for number in window.ids[left:-1]] == whole.ids[left:-1]
    for window in found:
        assert window.ids[:left] == whole.ids[:left] and window.ids[-1] == whole.ids[-1]
        assert window.segments == [0] * left + [1] * (len(window) - left) and len(window) <= left + room + 1


@pytest.mark.parametrize("make", MADE)
@given(text=written, room=st.integers(1, 9), data=st.data())
def test_windows_of_sentencepiece_hold_every_piece_once(make, text, room, data):
    """Its blank in front is a piece of an empty span, and no special token."""
    tokenizer = MADE[make]
    frame, pieces = len(tokenizer.encode("")), tokenizer.pieces(text).ids
    stride = data.draw(st.integers(1, room))
    found = windows(tokenizer, text, room + frame, stride)
    for number, window in enumerate(found):
        expected = pieces[number * stride : number * stride + room]
        assert window.ids == tokenizer._frame.around(Pieces(expected, [(0, 0)] * len(expected))).ids
    assert (len(found) - 1) * stride + room >= len(pieces)


@pytest.mark.parametrize("make", MADE)
@given(first=written, second=written, room=st.integers(1, 9))
def test_pair_windows_of_sentencepiece_slide_over_all_of_the_second(make, first, second, room):
    tokenizer = MADE[make]
    framed = len(tokenizer.encode_pair(first, ""))
    left, right = tokenizer.pieces(first), tokenizer.pieces(second).ids
    for number, window in enumerate(pair_windows(tokenizer, first, second, framed + room, room)):
        expected = right[number * room : (number + 1) * room]
        around = tokenizer._frame.around_pair(left, Pieces(expected, [(0, 0)] * len(expected)))
        assert (window.ids, window.segments) == (around.ids, around.segments)


@pytest.mark.parametrize(
    ("maximum", "stride", "said"), [(5, 4, "1 to 3"), (5, 0, "stride is 0"), (2, 1, "2 tokens")]
)
def test_a_stride_that_leaves_tokens_out_and_a_length_without_room_are_refused(maximum, stride, said):
    with pytest.raises(UserError, match=said):
        windows(TOKENIZER, "今天天气", maximum, stride)


def test_a_first_text_without_room_for_the_second_is_refused():
    with pytest.raises(UserError, match="shorten the first text"):
        pair_windows(TOKENIZER, "今天天气", "不错", 7, 1)
