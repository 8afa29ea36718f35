"""The convention of bert4keras: against a naive form of its rules, and against what it computed itself."""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.data.files import read_json_records
from hanformer.text import wobert
from hanformer.text.basic import BasicRules
from hanformer.text.bert4keras_rules import join, pair_lengths
from hanformer.text.conventions import BERT4KERAS
from hanformer.text.rematch import rematch, rematch_as_bert4keras
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.vocabulary_tools import simplified
from hanformer.text.wordpiece import WordPieceTokenizer

TOKENS = [
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        "b",
        "##b",
        "ab",
        "##ab",
        "s",
        "##s",
        "α",
        "##σ",
        "##ς",
        "1",
    ),
    *("中", "文", "，", "。", "[", "]", "'", "##i", "i", "$", ".", "豈", "ᄒ", "##ᅡ", "##ᆫ", "B", "É"),
]
LOWER = WordPieceTokenizer(Vocabulary(TOKENS), convention=BERT4KERAS)
CASED = WordPieceTokenizer(Vocabulary(TOKENS), False, convention=BERT4KERAS)
common = st.sampled_from([*TOKENS, "ΑΣ", "Σ", "İ", "한", "é", "e\u0301", "\u302e", "≠", "ﬁ"])
odd = st.sampled_from(
    [" ", "\u3000", "\x85", "\x1c", "\u2028", "\u200d", "\0", "\ufffd", "\ue000", "\ud800", "\t"]
)
texts = st.lists(st.one_of(common, odd, st.characters()), max_size=25).map("".join)


def naive_words(text: str, lowercase: bool) -> list[str]:
    """The definition, word by word: spaces put around signs and ideographs, then a split."""
    if lowercase:
        decomposed = unicodedata.normalize("NFD", text.lower())
        text = "".join(sign for sign in decomposed if unicodedata.category(sign) != "Mn")
    return "".join(map(naive_spaced, text)).split()


def naive_spaced(sign: str) -> str:
    kind, code = unicodedata.category(sign), ord(sign)
    chinese = 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0xF900 <= code <= 0xFAFF
    chinese |= 0x20000 <= code <= 0x2A6DF or 0x2A700 <= code <= 0x2B73F or 0x2B740 <= code <= 0x2B81F
    chinese |= 0x2B820 <= code <= 0x2CEAF or 0x2F800 <= code <= 0x2FA1F
    if chinese or kind[0] == "P" or (sign.isascii() and kind[0] == "S"):
        return f" {sign} "
    if sign in " \n\r\t" or kind == "Zs":
        return " "
    return "" if kind in ("Cc", "Cf") or sign == "\ufffd" else sign


def naive_pieces(word: str) -> list[str]:
    found: list[str] = []
    while (start := sum(len(piece.removeprefix("##")) for piece in found)) < len(word):
        prefix = "##" if start else ""
        ends = [end for end in range(len(word), start, -1) if prefix + word[start:end] in TOKENS]
        if not ends:
            return [word]
        found.append(prefix + word[start : ends[0]])
    return found if len(word) <= 200 else [word]


@given(text=texts)
@pytest.mark.parametrize(("tokenizer", "lowercase"), [(LOWER, True), (CASED, False)])
def test_fuzzed_text_is_cut_as_the_naive_form_cuts_it(tokenizer, lowercase, text):
    expected = [piece for word in naive_words(text, lowercase) for piece in naive_pieces(word)]
    found = tokenizer.encode(text, special_tokens=False)
    assert found.tokens == expected
    assert found.ids == tokenizer.vocabulary.ids_of(expected)
    assert tokenizer.encode(text, special_tokens=False) == found  # once more, from what was remembered


@given(text=texts)
def test_every_token_stands_at_its_offsets(text):
    found = LOWER.encode(text, special_tokens=False)
    assert [start for start, _ in found.offsets] == sorted(start for start, _ in found.offsets)
    prepared = BERT4KERAS.prepare(text, BasicRules())
    for token, (start, end) in zip(found.tokens, found.offsets, strict=True):
        inside = "".join(word.text for word in BERT4KERAS.words(prepared[start:end], BasicRules()))
        # A Hangul syllable is three parts at one place.
        assert token.removeprefix("##") in inside


def test_unknown_words_keep_their_text_and_special_tokens_in_text_are_text():
    found = LOWER.encode("XyZ [SEP]", special_tokens=False)
    assert found.tokens == ["xyz", "[", "sep", "]"]
    assert found.ids[0] == LOWER.vocabulary.unk_id
    pair = LOWER.encode_pair("Q中", "R文")
    assert pair.tokens == ["[CLS]", "q", "中", "[SEP]", "r", "文", "[SEP]"]


def test_a_word_may_have_two_hundred_characters():
    assert LOWER.encode("a" + "b" * 199, special_tokens=False).tokens[:2] == ["ab", "##b"]
    assert LOWER.encode("a" + "b" * 200, special_tokens=False).tokens == ["a" + "b" * 200]


@given(first=st.integers(0, 30), second=st.integers(0, 30), room=st.integers(0, 40))
def test_pairs_lose_the_last_token_of_the_longer_one(first, second, room):
    left, right = first, second
    while left + right > room:
        left, right = (left - 1, right) if left >= right else (left, right - 1)
    assert pair_lengths(first, second, room) == (left, right)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["中", "文", "，", "ab", "##c", "d", "."], "中文，abc d."),
        (["it", "'", "s", "a", "+", "b"], "it's a+b"),
        (["3", ".", "5", "[CLS]", "[x]", "中"], "3.5中"),
        (["##", "a"], "a"),
        ([], ""),
    ],
)
def test_joining_has_its_own_blanks(tokens, text):
    assert join(tokens) == text


def test_rematch_is_exact_where_bert4keras_is_one_too_high():
    text = "İ中\u200bÉ"
    tokens = ["[CLS]", *LOWER.encode(text, special_tokens=False).tokens, "[SEP]"]
    assert rematch(text, tokens) == [[], [0], [1], [3], []]
    assert rematch_as_bert4keras(text, tokens) == [[], [0], [2], [4], []]


@given(text=texts)
def test_rematch_lies_within_the_offsets(text):
    found = LOWER.encode(text, special_tokens=False)
    for token, places, (start, end) in zip(
        found.tokens, rematch(text, found.tokens), found.offsets, strict=True
    ):
        assert set(places) <= set(range(start, end)) and (places or token == "[]"), (token, text)


@cache
def tokenizers(folder: Path) -> dict[str, WordPieceTokenizer]:
    """The four tokenizers that bert4keras was asked."""
    path = folder / "vocab" / "bert_zh_vocab_21128.txt"
    whole = Vocabulary.from_file(path)
    small = simplified(whole, ["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    assert (len(small.keep_tokens), sum(small.keep_tokens)) == (13584, 93885784)
    words = folder / "vocab" / "wobert_base_vocab.txt"
    return {
        "bert_zh": WordPieceTokenizer.load(path, convention="bert4keras"),
        "bert_zh_cased": WordPieceTokenizer.load(path, convention="bert4keras", lowercase=False),
        "bert_zh_simplified": WordPieceTokenizer(small.vocabulary, convention=BERT4KERAS),
        "wobert": wobert.load(words, convention="bert4keras"),
    }


@cache
def computed(folder: Path) -> list[dict[str, object]]:
    """What bert4keras 0.11.5 gave."""
    return read_json_records(folder / "tokenizer_outputs" / "tokenizers.jsonl.gz")


@pytest.mark.parametrize("name", ["bert_zh", "bert_zh_cased", "bert_zh_simplified", "wobert"])
def test_every_row_that_bert4keras_computed_is_the_same(data_folder, name):
    tokenizer = tokenizers(data_folder)[name]
    rows = [row for row in computed(data_folder) if row["tokenizer"] == name]
    assert len(rows) == 707
    for row in rows:
        text = str(row["text"])
        single, pair = tokenizer.encode(text), tokenizer.encode_pair(text, str(row["second"]), 48)
        assert (single.tokens, single.ids, single.segments) == (row["tokens"], row["ids"], row["segments"])
        assert (pair.ids, pair.segments) == (row["pair_maxlen48_ids"], row["pair_maxlen48_segments"])
        assert tokenizer.decode(single.ids) == row["decoded"]
        assert rematch_as_bert4keras(text, single.tokens, tokenizer.rules.lowercase) == row["rematch"]
