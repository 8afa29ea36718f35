"""What batches and windows ask of a tokenizer, asked of every kind that is not WordPiece."""

from __future__ import annotations

import pytest

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
