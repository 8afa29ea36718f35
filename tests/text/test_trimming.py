"""Trimming: the kept pieces keep their rows, scores and order; the list says which rows those were."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.sentencepiece_kinds import T5
from hanformer.text.sentencepiece_model import Piece, SentencePieceModel
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from hanformer.text.trimming import count_pieces, frequent_ids, read_keep_tokens, trimmed, write_trimmed
from tests.text.sentencepiece_material import TEXTS, model

WHOLE = model("t5")
SIZE = len(WHOLE.pieces)
TOKENIZER = SentencePieceTokenizer(WHOLE, T5)


def test_counts_are_those_of_the_tokens() -> None:
    expected = Counter(
        token for text in TEXTS for token in TOKENIZER.encode(text, special_tokens=False).tokens
    )
    assert count_pieces(TOKENIZER, TEXTS) == expected


def test_the_rule_of_mt5() -> None:
    """The first 259, what was seen often enough, the last ones; rows beyond follow."""
    counts = count_pieces(TOKENIZER, TEXTS)
    kept = frequent_ids(WHOLE, counts, minimum_count=16, last=10, beyond=[SIZE, SIZE + 1])
    middle = [n for n in range(259, SIZE - 10) if counts[WHOLE.pieces[n].text] >= 16]
    assert 0 < len(middle) < SIZE - 269
    assert kept == [*range(259), *middle, *range(SIZE - 10, SIZE), SIZE, SIZE + 1]


def test_text_of_kept_pieces_is_cut_as_before() -> None:
    kept = frequent_ids(WHOLE, count_pieces(TOKENIZER, TEXTS), minimum_count=1, last=0)
    small = SentencePieceTokenizer(trimmed(WHOLE, kept), T5)
    assert len(small.vocabulary) < SIZE
    for text in TEXTS:
        before, after = TOKENIZER.encode(text), small.encode(text)
        assert (after.tokens, after.offsets) == (before.tokens, before.offsets)
        assert [kept[number] for number in after.ids] == before.ids


@given(st.sets(st.integers(0, SIZE - 1), max_size=40))
def test_pieces_follow_the_list(chosen: set[int]) -> None:
    keep = [*sorted(chosen | {2}), SIZE + 7]
    made = trimmed(WHOLE, keep)
    assert list(made.pieces) == [WHOLE.pieces[number] for number in keep[:-1]]
    assert (made.cutting, made.normalising, made.rest) == (WHOLE.cutting, WHOLE.normalising, WHOLE.rest)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        ([], "lack the unknown piece"),
        ([0, 1], "lack the unknown piece"),
        ([2, 2], "negative or double"),
        ([2, -1], "negative or double"),
        ([2, SIZE, 3], "not at the end of the list"),
    ],
)
def test_lists_are_checked(keep: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        trimmed(WHOLE, keep)


def test_counts_are_checked() -> None:
    with pytest.raises(UserError, match="expected counts from 0"):
        frequent_ids(WHOLE, {}, first=SIZE, last=1)
    with pytest.raises(UserError, match="lack the unknown piece"):
        frequent_ids(WHOLE, {}, first=0, last=0)


def test_written_files(tmp_path: Path) -> None:
    WHOLE.save(tmp_path / "whole.model")
    keep = [*range(300), SIZE]
    listed = write_trimmed(tmp_path / "whole.model", keep, tmp_path / "cn.model")
    assert listed == tmp_path / "cn_keep_tokens.json" and read_keep_tokens(listed) == keep
    assert SentencePieceModel.load(tmp_path / "cn.model").pieces == WHOLE.pieces[:300]


@pytest.mark.parametrize("content", ["{", "{}", "[1.5]", "[true]", "[-1]", '["1"]'])
def test_other_lists_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "keep.json").write_text(content)
    with pytest.raises(UserError, match="keep.json: expected a JSON list of ids"):
        read_keep_tokens(tmp_path / "keep.json")


def test_the_published_chinese_mt5(data_folder: Path) -> None:
    """A model of full size that holds the published pieces at the published ids is trimmed to the published file."""
    folder = data_folder / "vocab"
    path = folder / "mt5_sentencepiece_cn.model"
    keep = read_keep_tokens(folder / "mt5_sentencepiece_cn_keep_tokens.json")
    published = SentencePieceModel.load(path)
    kept = keep[: len(published.pieces)]
    whole = [Piece(f"filler {number}") for number in range(kept[-1] + 1)]
    for number, piece in zip(kept, published.pieces, strict=True):
        whole[number] = piece
    full = published.with_pieces(whole)
    assert (len(whole), len(keep), len(kept)) == (250_100, 32_598, 32_596)
    assert trimmed(full, keep).to_bytes() == path.read_bytes()
    counts = {piece.text: 1000 for piece in published.pieces[259:-100]}
    assert frequent_ids(full, counts, beyond=[250_100, 250_101]) == keep
    assert json.loads((folder / "mt5_sentencepiece_cn_keep_tokens.json").read_bytes()) == keep
