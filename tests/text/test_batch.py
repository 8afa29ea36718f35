"""Batches: the same encodings, in order, however many processes."""

from __future__ import annotations

import pytest

from hanformer.errors import UserError
from hanformer.text import batch
from hanformer.text.batch import encode_batch
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer

TOKENIZER = WordPieceTokenizer(Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"今天气不错，ab"]))
TEXTS = [*("今天天气不错，" * (number % 7) for number in range(60)), "", ("今天", "天气不错"), "龘 ab"]


def one_by_one(maximum: int | None) -> list[object]:
    return [
        TOKENIZER.encode_pair(*text, maximum) if isinstance(text, tuple) else TOKENIZER.encode(text, maximum)
        for text in TEXTS
    ]


@pytest.mark.parametrize("workers", [None, 1, 2])
@pytest.mark.parametrize("maximum", [None, 8])
def test_a_batch_is_its_texts_one_by_one(monkeypatch, workers, maximum):
    monkeypatch.setattr(batch, "_CHUNK", 40)
    assert encode_batch(TOKENIZER, TEXTS, maximum, workers=workers) == one_by_one(maximum)
    assert encode_batch(TOKENIZER, [], workers=workers) == []


@pytest.mark.parametrize("worth", [0.0, 1e9])
def test_whether_processes_help_changes_nothing(monkeypatch, worth):
    started = []
    pool = batch._pool
    monkeypatch.setattr(batch, "_pool", lambda job, workers: started.append(workers) or pool(job, workers))
    monkeypatch.setattr(batch, "_usable_cores", lambda: 2)
    # Every chunk is one text, and the first one ends the trial.
    for name, value in (("_CHUNK", 1), ("_TRIAL", 0.0), ("_QUICK", 0.0), ("_WORTH", worth)):
        monkeypatch.setattr(batch, name, value)
    assert encode_batch(TOKENIZER, TEXTS, 6) == one_by_one(6)
    assert started == ([2] if worth == 0.0 else [])


def test_without_special_tokens():
    found = encode_batch(TOKENIZER, ["今天", "b"], special_tokens=False)
    assert [encoding.tokens for encoding in found] == [["今", "天"], ["b"]]


def test_what_cannot_be_done_is_refused_also_in_a_worker():
    with pytest.raises(UserError, match="workers is 0"):
        encode_batch(TOKENIZER, ["今"], workers=0)
    with pytest.raises(UserError, match="pair"):
        encode_batch(TOKENIZER, [("今", "天")], special_tokens=False)
    with pytest.raises(UserError, match="maximum_length"):
        encode_batch(TOKENIZER, ["今"], 1, workers=2)


@pytest.mark.parametrize("text", ["今天天气", ""])
def test_one_text_is_no_batch(text):
    with pytest.raises(UserError, match=r"expected a list of texts, got one text; write \[text\]"):
        encode_batch(TOKENIZER, text)
