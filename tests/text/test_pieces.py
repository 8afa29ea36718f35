"""Learned pieces: exact offsets, dropout that is repeatable, files, defects."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.pieces import PieceTokenizer, train_pieces
from hanformer.text.protocols import Tokenizer

TEXTS = [
    "小明有12个苹果，小红有3个苹果，一共有多少个苹果？",
    "小红买了5个苹果，一共花了多少元？",
    "一共有多少个小朋友？小明有多少个？买了多少元的苹果？ apple apple",
] * 3
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
texts = st.text(st.sampled_from("小明红有个苹果一共多少买了元？，12 ae龘\u3000\ud800"), max_size=25)
TRAINED = train_pieces(TEXTS, 80, specials=SPECIALS)


def test_training_learns_frequent_neighbours_within_the_size():
    assert TRAINED.vocabulary_size <= 80
    assert TRAINED.vocabulary.tokens[:4] == SPECIALS
    tokens = TRAINED.encode("一共有多少个苹果？").tokens
    assert tokens[-1] == "？" and "".join(tokens) == "一共有多少个苹果？" and len(tokens) <= 5


def test_training_twice_gives_the_same():
    assert train_pieces(TEXTS, 80, specials=SPECIALS).vocabulary == TRAINED.vocabulary


def test_characters_seen_once_are_unknown_and_the_size_bounds_characters():
    trained = train_pieces([*TEXTS, "龘"], 12)
    assert "龘" not in trained.vocabulary and trained.vocabulary_size == 12
    assert trained.encode("龘").tokens == ["[UNK]"]
    assert "龘" in train_pieces([*TEXTS, "龘"], 80, minimum_count=1).vocabulary


def assert_exact(text: str, tokens: list[str], offsets: list[tuple[int, int]]) -> None:
    for token, (start, end) in zip(tokens, offsets, strict=True):
        assert token == text[start:end] or (token == "[UNK]" and end == start + 1)
    covered = [place for start, end in offsets for place in range(start, end)]
    assert covered == [place for place, character in enumerate(text) if not character.isspace()]


@given(text=texts, dropout=st.sampled_from([0.0, 0.2, 1.0]), seed=st.integers(0, 9))
def test_offsets_are_exact_and_cover_the_text(text, dropout, seed):
    encoding = TRAINED.encode(text, dropout=dropout, random=Random(seed))
    assert_exact(text, encoding.tokens, encoding.offsets)
    assert encoding == TRAINED.encode(text, dropout=dropout, random=Random(seed))
    if dropout == 1.0:
        assert all(end - start == 1 for start, end in encoding.offsets)


@given(text=texts)
def test_our_merging_without_dropout_is_the_librarys(text):
    found = TRAINED.encode(text)
    # A dropout too small to strike takes our own way of merging.
    ours = TRAINED.encode(text, dropout=1e-300, random=Random(0))
    assert (ours.ids, ours.offsets) == (found.ids, found.offsets)


def test_dropout_gives_several_cuts_of_one_text():
    random = Random(0)
    cuts = {tuple(TRAINED.encode(TEXTS[0], dropout=0.3, random=random).ids) for _ in range(20)}
    assert len(cuts) > 10
    with pytest.raises(UserError, match="random"):
        TRAINED.encode("苹果", dropout=0.1)
    with pytest.raises(UserError, match="between 0 and 1"):
        TRAINED.encode("苹果", dropout=1.5, random=random)


def test_special_tokens_are_never_split_not_even_by_dropout():
    tokens = TRAINED.encode("苹果[SEP]苹果", dropout=1.0, random=Random(0)).tokens
    assert tokens == ["苹", "果", "[SEP]", "苹", "果"]


def test_framing_pairs_and_truncation():
    tokenizer: Tokenizer = TRAINED
    assert tokenizer.encode("苹果", special_tokens=True).tokens == ["[CLS]", "苹果", "[SEP]"]
    pair = tokenizer.encode_pair("苹果苹果", "苹果", 5)
    assert pair.segments == [0, 0, 0, 1, 1] and pair.truncated
    assert tokenizer.encode("苹果苹果", 1).truncated
    with pytest.raises(UserError, match="no cls token"):
        train_pieces(TEXTS, 60).encode("苹果", special_tokens=True)


def test_decoding_gives_the_text_back():
    for text in TEXTS:
        assert TRAINED.decode(TRAINED.encode(text, special_tokens=True).ids) == text.replace(" ", "")


def test_saved_and_loaded_it_is_the_same(tmp_path):
    TRAINED.save(tmp_path)
    loaded = PieceTokenizer.load(tmp_path)
    assert loaded.vocabulary == TRAINED.vocabulary
    assert loaded.encode(TEXTS[0]) == TRAINED.encode(TEXTS[0])


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"model": {"type": "BPE"}}), "\ud800"])
def test_damaged_files_are_named(tmp_path, content):
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        PieceTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        PieceTokenizer.load(tmp_path)


@pytest.mark.parametrize(("given_texts", "size"), [([], 50), (["  "], 50), (TEXTS, 1)])
def test_nothing_to_learn_from_is_refused(given_texts, size):
    with pytest.raises(UserError, match="character"):
        train_pieces(given_texts, size)
    with pytest.raises(UserError, match="UNK"):
        train_pieces(TEXTS, 50, specials=())
