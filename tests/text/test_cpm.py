"""CPM: words, signs for blanks and line ends, and the way back."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.cpm import CpmTokenizer, chinese_words, joined
from hanformer.text.sentencepiece_kinds import CPM
from hanformer.text.sentencepiece_model import NORMAL, Piece
from tests.text.sentencepiece_material import library, model

texts = st.text(st.sampled_from(" \n今天天气很好北京公园\u3000Ab12①，。𠮷\u2582\u2583"), max_size=20)


def pairs(text: str) -> list[str]:
    """Words of two characters: a segmenter that the tests can foretell."""
    return [text[place : place + 2] for place in range(0, len(text), 2)]


TOKENIZER = CpmTokenizer(model("cpm"), pairs)


def reference(text: str) -> list[int]:
    """The published pipeline, with the library's own normalisation."""
    words = [word.replace(" ", "\u2582").replace("\n", "\u2583") for word in pairs(text)]
    peer = library("cpm")
    pieces = peer.encode(" ".join(words), out_type=str)
    return [peer.piece_to_id("<cls>") if piece == "\u2583" else peer.piece_to_id(piece) for piece in pieces]


@given(texts)
def test_ids_are_those_of_the_published_pipeline(text: str) -> None:
    if "\u2583" not in text and "\n" not in text:
        assert TOKENIZER.pieces(text).ids == reference(text)


def test_a_line_end_is_the_cls_of_the_first_model() -> None:
    tokenizer = CpmTokenizer(model("cpm"), list)
    found = tokenizer.encode("今\n天 气")
    assert found.ids.count(3) == 1 and found.offsets[found.ids.index(3)] == (1, 2)
    assert tokenizer.decode(found.ids) == "今\n天 气" and tokenizer.line_end_id == 3


def test_a_model_with_a_piece_for_line_ends() -> None:
    pieces = [*model("cpm").pieces]
    pieces[3] = Piece("\u2583", -2.0, NORMAL)
    tokenizer = CpmTokenizer(model("cpm").with_pieces(pieces), list)
    found = tokenizer.encode("今\n天\u2583")
    assert found.ids.count(3) == 2 and tokenizer.decode(found.ids) == "今\n天\n"


@given(texts)
def test_places(text: str) -> None:
    found = TOKENIZER.pieces(text)
    assert all(0 <= start <= end <= len(text) for start, end in found.offsets)
    assert [start for start, _ in found.offsets] == sorted(start for start, _ in found.offsets)
    covered = {place for start, end in found.offsets for place in range(start, end)}
    assert all(place in covered for place, character in enumerate(text) if character != "\u3000")


@given(st.text(st.sampled_from(" \n今天天气很好北京公园"), max_size=20))
def test_round_trip(text: str) -> None:
    tokenizer = CpmTokenizer(model("cpm"), list)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_joined_words_know_their_places() -> None:
    made = joined("今天 \n", lambda text: ["今天", " ", "\n"])
    assert made.text == "今天 \u2582 \u2583"
    assert made.starts == [0, 1, 2, 2, 3, 3] and made.ends == [1, 2, 2, 3, 3, 4]


def test_nothing_is_put_around_a_text() -> None:
    assert TOKENIZER.encode("今天").ids == TOKENIZER.encode("今天", special_tokens=False).ids
    assert TOKENIZER.encode_pair("今天", "北京").segments[-1] == 1
    assert TOKENIZER.encode("今天 北京 公园", 2).truncated


def test_jieba_finds_words() -> None:
    assert list(chinese_words("美国的首都是华盛顿")) == ["美国", "的", "首都", "是", "华盛顿"]
    tokenizer = CpmTokenizer(model("cpm"))
    assert tokenizer.encode("首都\n北京").ids.count(tokenizer.line_end_id) == 1


def test_saved_is_loaded(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    loaded = CpmTokenizer.load(tmp_path)
    assert loaded.vocabulary == TOKENIZER.vocabulary and loaded.kind is CPM
    assert pickle.loads(pickle.dumps(TOKENIZER)).encode("今天 北\n京") == TOKENIZER.encode("今天 北\n京")
    with pytest.raises(UserError, match="use SentencePieceTokenizer"):
        CpmTokenizer.load(tmp_path, "t5")


def test_another_model_is_refused() -> None:
    with pytest.raises(UserError, match="is it CPM's model"):
        CpmTokenizer(model("plain"))
