"""Ids and texts are the library's; places are exact; frames, truncation and files are each family's."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.sentencepiece_kinds import KINDS, PLAIN, kind_of, named_kind
from hanformer.text.sentencepiece_model import Piece
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.text.sentencepiece_material import MAKES, library, model, model_bytes
from tests.text.test_normalising import texts

MADE = {make: SentencePieceTokenizer(model(make), KINDS.get(make, PLAIN)) for make in MAKES if make != "cpm"}


@pytest.mark.parametrize("make", MADE)
@given(text=texts)
def test_ids_are_the_librarys(make: str, text: str) -> None:
    assert MADE[make].pieces(text).ids == library(make).encode(text)


@pytest.mark.parametrize("make", MADE)
@given(text=texts)
def test_decoding_is_the_librarys(make: str, text: str) -> None:
    peer = library(make)
    ids = [number for number in peer.encode(text) if number != peer.unk_id()]
    found, expected = MADE[make].decode(ids), peer.decode(ids)
    if make == "plain":  # the library leaves the blank that it put behind a text; ours is the text
        found, expected = found.strip(" "), expected.strip(" ")
    assert found == expected


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("text", ["the cat sat", "今天", "", "a small text"])
def test_known_text_goes_both_ways(make: str, text: str) -> None:
    assert MADE[make].decode(MADE[make].encode(text).ids) == text


@given(st.lists(st.integers(0, 300), max_size=12))
def test_decoding_any_ids_is_the_librarys(ids: list[int]) -> None:
    """Torn bytes included: each gives a replacement character."""
    peer = library("llama")
    ids = [number for number in ids if number != peer.unk_id() and number < peer.get_piece_size()]
    assert MADE["llama"].decode(ids).replace("\ufffd", "") == peer.decode(ids).replace("\ufffd", "")


@pytest.mark.parametrize("make", MADE)
@given(text=texts)
def test_places(make: str, text: str) -> None:
    """Within the text, never back, and every character that is kept is covered."""
    offsets = MADE[make].pieces(text).offsets
    assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert [start for start, _ in offsets] == sorted(start for start, _ in offsets)
    covered = {place for start, end in offsets for place in range(start, end)}
    for place, character in enumerate(text):
        if library(make).normalize(f"a{character}b").replace("▁", "") not in ("ab", "a b"):
            assert place in covered, (text, place)


@given(text=texts)
def test_places_tile_a_text_that_is_not_normalised(text: str) -> None:
    found = MADE["llama"].pieces(text)
    spans = list(dict.fromkeys(span for span in found.offsets if span[0] < span[1]))
    assert "".join(text[start:end] for start, end in spans) == text
    assert MADE["llama"].decode(found.ids) == text


def test_a_lone_surrogate_is_replaced_in_its_place() -> None:
    found = MADE["llama"].encode("a\ud800b", special_tokens=False)
    assert found.offsets[-1] == (2, 3) and MADE["llama"].decode(found.ids) == "a\ufffdb"


def test_bytes_stand_for_their_character() -> None:
    found = MADE["t5"].encode("好𠮷x", special_tokens=False)
    places = [
        span for token, span in zip(found.tokens, found.offsets, strict=True) if token.startswith("<0xF0")
    ]
    assert places == [(1, 2)] and found.offsets.count((1, 2)) == 4


@pytest.mark.parametrize(
    ("make", "single", "pair", "segments"),
    [
        ("t5", "A </s>", "A </s> B </s>", "0 0 1 1"),
        ("xlnet", "A <sep> <cls>", "A <sep> B <sep> <cls>", "0 0 1 1 2"),
        ("llama", "<s> A", "<s> A <s> B", "0 0 1 1"),
        ("bert", "[CLS] A [SEP]", "[CLS] A [SEP] B [SEP]", "0 0 0 1 1"),
        ("plain", "A", "A B", "0 1"),
    ],
)
def test_frames(make: str, single: str, pair: str, segments: str) -> None:
    tokenizer = MADE[make]
    first, second = (
        tokenizer.encode("天", special_tokens=False),
        tokenizer.encode("气 x", special_tokens=False),
    )
    whole = tokenizer.encode("天")
    assert whole.tokens == _filled(single, first.tokens, second.tokens)
    both = tokenizer.encode_pair("天", "气 x")
    assert both.tokens == _filled(pair, first.tokens, second.tokens)
    lengths = {"A": len(first), "B": len(second)}
    expected = [
        int(segment)
        for part, segment in zip(pair.split(), segments.split(), strict=True)
        for _ in range(lengths.get(part, 1))
    ]
    assert both.segments == expected and not both.truncated
    assert [span for span, token in zip(both.offsets, both.tokens, strict=True) if token == "</s>"].count(
        (0, 0)
    ) == both.tokens.count("</s>")


def _filled(template: str, first: list[str], second: list[str]) -> list[str]:
    texts = {"A": first, "B": second}
    return [token for part in template.split() for token in texts.get(part, [part])]


@pytest.mark.parametrize("make", MADE)
@given(first=texts, second=texts, maximum=st.integers(0, 12))
def test_truncation_is_never_silent(make: str, first: str, second: str, maximum: int) -> None:
    tokenizer = MADE[make]
    single = (tokenizer.encode(first), lambda: tokenizer.encode(first, maximum), [first])
    pair = (
        tokenizer.encode_pair(first, second),
        lambda: tokenizer.encode_pair(first, second, maximum),
        [first, second],
    )
    for whole, cut, parts in (single, pair):
        specials = len(whole) - sum(len(tokenizer.pieces(part).ids) for part in parts)
        if maximum < specials:
            with pytest.raises(UserError, match=f"expected at least {specials}, for the special tokens"):
                cut()
            continue
        found = cut()
        assert len(found) == min(maximum, len(whole)) and found.truncated == (len(whole) > maximum)


@pytest.mark.parametrize("make", MADE)
def test_saved_is_loaded(make: str, tmp_path: Path) -> None:
    tokenizer = MADE[make]
    tokenizer.save(tmp_path / "new")
    loaded = SentencePieceTokenizer.load(tmp_path / "new")
    assert loaded.kind is tokenizer.kind and loaded.vocabulary == tokenizer.vocabulary
    for same in (loaded, pickle.loads(pickle.dumps(tokenizer))):
        assert same.encode_pair("今天 Ａ", "天气①𠮷") == tokenizer.encode_pair("今天 Ａ", "天气①𠮷")


@pytest.mark.parametrize("make", ["t5", "xlnet", "llama", "bert"])
def test_pieces_show_the_family(make: str, tmp_path: Path) -> None:
    assert kind_of(model(make), tmp_path).name == make


def test_configs_show_the_family(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mt5"}')
    assert kind_of(model("plain"), tmp_path).name == "t5"
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "XLNetTokenizerFast"}')
    (tmp_path / "config.json").unlink()
    assert kind_of(model("plain"), tmp_path).name == "xlnet"


def test_an_unknown_family_has_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(model_bytes("plain"))
    with pytest.raises(UserError, match="give kind=, one of t5, xlnet"):
        SentencePieceTokenizer.load(tmp_path / "x.model")
    assert SentencePieceTokenizer.load(tmp_path, kind="plain").kind is PLAIN
    with pytest.raises(UserError, match="'nothing' is none of"):
        named_kind("nothing")
    with pytest.raises(UserError, match="has no token '<sep>'"):
        SentencePieceTokenizer.load(tmp_path, kind="xlnet")
    (tmp_path / "y.model").write_bytes(b"")
    with pytest.raises(UserError, match=r"expected one .model file, found \['x.model', 'y.model'\]"):
        SentencePieceTokenizer.load(tmp_path)


def test_t5_gets_the_signs_that_its_file_lacks(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(model_bytes("t5"))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 3})
    )
    tokenizer = SentencePieceTokenizer.load(tmp_path)
    size = len(model("t5").pieces)
    assert tokenizer.vocabulary.tokens[size:] == ("<extra_id_2>", "<extra_id_1>", "<extra_id_0>")
    found = tokenizer.encode("今天<extra_id_0>天气", special_tokens=False)
    place = found.tokens.index("<extra_id_0>")
    assert found.ids[place] == size + 2 and found.offsets[place] == (2, 14)
    tokenizer.save(tmp_path / "again")
    assert SentencePieceTokenizer.load(tmp_path / "again").vocabulary == tokenizer.vocabulary


def test_the_special_ids_of_t5_and_llama() -> None:
    t5, llama = MADE["t5"].vocabulary, MADE["llama"].vocabulary
    assert (t5.pad_id, t5.sep_id, t5.unk_id) == (0, 1, 2)
    assert (llama.unk_id, llama.cls_id, llama.sep_id) == (0, 1, 2)


def test_what_the_library_refuses_is_said() -> None:
    lacking = model("t5").with_pieces(piece for piece in model("t5").pieces if piece.text != "<0x41>")
    with pytest.raises(UserError, match="the sentencepiece library refuses it"):
        SentencePieceTokenizer(lacking, PLAIN)
    with pytest.raises(UserError, match="out of range"):
        MADE["t5"].decode([len(model("t5").pieces)])


def test_user_defined_pieces_are_never_cut() -> None:
    found = MADE["xlnet"].encode("a<eop>今天“ ”b", special_tokens=False)
    assert "<eop>" in found.tokens
    assert found.offsets[found.tokens.index("<eop>")] == (1, 6)


def test_specials_are_dropped_or_shown() -> None:
    ids = MADE["xlnet"].encode("天").ids
    assert "<sep><cls>" in MADE["xlnet"].decode(ids, skip_specials=False)
    assert "<" not in MADE["xlnet"].decode(ids)


def test_scores_decide(tmp_path: Path) -> None:
    """A piece that is made likely enough is taken: the model is really the one that was given."""
    pieces = [*model("plain").pieces, Piece("天气很好", 50.0)]
    tokenizer = SentencePieceTokenizer(model("plain").with_pieces(pieces), PLAIN)
    assert "天气很好" in tokenizer.encode("天气很好").tokens
