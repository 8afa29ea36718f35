"""What batches and windows ask of a tokenizer, asked of every kind that is not WordPiece."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.text.batch import encode_batch
from hanformer.text.protocols import Tokenizer
from hanformer.text.windows import windows
from tests.text.test_load import SAVED

TEXTS = ["今天天气很好，我们去公园散步。", "", "the cat  sat", ("首都", "北京 is")] * 3


@pytest.mark.parametrize("name", ["t5", "llama", "cpm", "byte_level"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_is_its_texts(name: str, workers: int) -> None:
    tokenizer = SAVED[name]
    expected = [
        tokenizer.encode_pair(*text, 9) if isinstance(text, tuple) else tokenizer.encode(text, 9)
        for text in TEXTS
    ]
    assert encode_batch(tokenizer, TEXTS, 9, workers=workers) == expected
    assert any(encoding.truncated for encoding in expected)


@pytest.mark.parametrize("name", ["t5", "llama", "cpm", "byte_level"])
def test_windows_cover_a_text(name: str) -> None:
    tokenizer: Tokenizer = SAVED[name]
    text = "今天天气很好，我们去公园散步。" * 3
    found = windows(tokenizer, text, 12, 6)
    whole = tokenizer.encode(text, special_tokens=False)
    spans = {span for encoding in found for span in encoding.offsets if span[0] < span[1]}
    assert spans == {span for span in whole.offsets if span[0] < span[1]}
    assert len(found) > 1 and all(len(encoding) <= 12 for encoding in found)


#: What normalisation drops, joins or takes apart, blanks of all kinds, and what looks like tokens.
ODD = [*"今天the ▁▂▃\t\n\r\x00\xad\u0301\u200b\u200d\u3000\ufeff\ud800ﬁ㎏½ﷺÅİßŉ하한ｱﾞ😀"]
SIGNS = ["[MASK]", "<s>", "</s>", "<0x0A>"]


@pytest.mark.parametrize("name", SAVED)
@settings(deadline=None, derandomize=True, max_examples=60)
@given(text=st.lists(st.sampled_from(ODD + SIGNS), max_size=8).map("".join))
def test_empty_tokens_are_blanks_that_stand_before_a_word(name: str, text: str) -> None:
    """Else every token has characters of the text: as `Encoding` says."""
    found = SAVED[name].encode(text, special_tokens=False)
    assert all(0 <= start <= end <= len(text) for start, end in found.offsets)
    empty = [
        (token, start)
        for token, (start, end) in zip(found.tokens, found.offsets, strict=True)
        if start == end
    ]
    if name in ("wordpiece", "pieces", "byte_level"):
        assert not empty
    assert all(token == "▁" for token, _ in empty)
    if name in ("t5", "llama"):  # one, before the first character that stands for something
        starts = [start for start, end in found.offsets if start < end]
        assert len(empty) <= 1 and [start for _, start in empty] == starts[: len(empty)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("t5", " 今", [("▁", (1, 1)), ("今", (1, 2))]),
        ("llama", "今", [("▁今", (0, 1))]),
        (
            "cpm",
            "天 天",
            [("▁", (0, 0)), ("天", (0, 1)), ("▁", (1, 1)), ("▂", (1, 2)), ("▁", (2, 2)), ("天", (2, 3))],
        ),
    ],
)
def test_where_a_blank_is_a_token_of_its_own(
    name: str, text: str, expected: list[tuple[str, tuple[int, int]]]
) -> None:
    found = SAVED[name].encode(text, special_tokens=False)
    assert list(zip(found.tokens, found.offsets, strict=True)) == expected
