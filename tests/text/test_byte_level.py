"""Byte-level BPE: the same cuts as the naive loop and as the library, places exact, nothing lost."""

from __future__ import annotations

import json
import pickle
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.byte_level import END, ByteLevelTokenizer, read_merges, read_tokens
from hanformer.text.vocabulary import SpecialTokens
from tests.text.sentencepiece_material import TEXTS

texts = st.text(
    st.sampled_from("  \n\tthe cat's I'll 今天天气很好，é\u0301𠮷0123!?\u3000\x00")
    | st.characters(exclude_categories=["Cs"]),
    max_size=16,
)


@cache
def trained() -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    peer = tokenizers.ByteLevelBPETokenizer()
    peer.train_from_iterator(TEXTS, 400, 2, show_progress=False, special_tokens=[])
    model = json.loads(peer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return (*tokens, END), tuple((left, right) for left, right in model["merges"])


def made() -> ByteLevelTokenizer:
    return ByteLevelTokenizer(*trained())


TOKENIZER = made()


def letters() -> dict[int, str]:
    """GPT-2's letters of the bytes, as its code makes them."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table, more = {byte: chr(byte) for byte in seen}, 0
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + more)
            more += 1
    return table


def words(text: str) -> list[str]:
    """GPT-2's pattern by hand: clitics; one blank and a run of letters, digits or others; runs of blanks."""
    found, place = [], 0
    while place < len(text):
        end = _word_end(text, place)
        found.append(text[place:end])
        place = end
    return found


def _class(character: str) -> str:
    category = unicodedata.category(character)
    if character.isspace() and character not in "\x1c\x1d\x1e\x1f":
        return "blank"
    return {"L": "letter", "N": "digit"}.get(category[0], "other")


def _word_end(text: str, place: int) -> int:
    for clitic in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
        if text.startswith(clitic, place):
            return place + len(clitic)
    start = place + 1 if text[place] == " " and place + 1 < len(text) else place
    if _class(text[start]) == "blank":
        start = place
    end = start + 1
    while end < len(text) and _class(text[end]) == _class(text[start]):
        end += 1
    if _class(text[start]) == "blank" and end < len(text) and end - start > 1:
        return end - 1
    return end


def naive(text: str) -> list[str]:
    ranks = {pair: rank for rank, pair in enumerate(TOKENIZER.merges)}
    found = []
    for word in words(text):
        parts = [letters()[byte] for byte in word.encode("utf-8")]
        while joins := [(ranks[pair], place) for place, pair in enumerate(pairwise(parts)) if pair in ranks]:
            _, place = min(joins)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        found += parts
    return found


ASSIGNED = st.text(
    st.sampled_from("  \n\tthe cat's I'll 今天天气很好，é\u0301𠮷0123!?\u3000\x00")
    | st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs", "Cn"]),
    max_size=16,
)


@given(ASSIGNED)
def test_cuts_as_the_definition_says(text: str) -> None:
    assert TOKENIZER.encode(text).tokens == naive(text)


@given(texts)
def test_round_trip_and_places(text: str) -> None:
    found = TOKENIZER.encode(text)
    assert TOKENIZER.decode(found.ids) == text
    spans = list(dict.fromkeys(found.offsets))
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


def test_the_end_is_found_in_text_and_dropped_in_decoding() -> None:
    found = TOKENIZER.encode(f"the{END}cat")
    assert found.offsets[found.tokens.index(END)] == (3, 3 + len(END))
    assert TOKENIZER.decode(found.ids) == "thecat"
    assert TOKENIZER.decode(found.ids, skip_specials=False) == f"the{END}cat"
    assert TOKENIZER.vocabulary.sep_id == len(TOKENIZER.vocabulary) - 1


def test_torn_characters_are_replaced() -> None:
    ids = TOKENIZER.encode("𠮷").ids
    assert (
        TOKENIZER.decode(ids[:-1]) == "\ufffd"
        and TOKENIZER.decode(TOKENIZER.encode("\ud800").ids) == "\ufffd"
    )


def test_truncation_and_pairs() -> None:
    assert TOKENIZER.encode("the cat sat", 2).truncated and len(TOKENIZER.encode("the cat sat", 2)) == 2
    both = TOKENIZER.encode_pair("the", " cat")
    assert both.ids == TOKENIZER.encode("the").ids + TOKENIZER.encode(" cat").ids and both.segments[-1] == 1


def test_saved_is_loaded(tmp_path: Path) -> None:
    signs = ByteLevelTokenizer([*trained()[0], "<sign>"], trained()[1], added=["<sign>"])
    signs.save(tmp_path)
    for same in (ByteLevelTokenizer.load(tmp_path), pickle.loads(pickle.dumps(signs))):
        assert same.vocabulary == signs.vocabulary and same.merges == signs.merges
        assert same.encode("the<sign>天") == signs.encode("the<sign>天")


def test_one_token_a_line(tmp_path: Path) -> None:
    """UER's form: other ids, its own special tokens, the same cuts."""
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *reversed(trained()[0]), "<mask>"]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    merges = "".join(f"{left} {right}\r\n" for left, right in trained()[1])
    (tmp_path / "merges.txt").write_text("#version: 0.2\r\n" + merges, encoding="utf-8", newline="")
    loaded = ByteLevelTokenizer.load(tmp_path)
    assert loaded.encode("the cat 天气").tokens == TOKENIZER.encode("the cat 天气").tokens
    assert loaded.vocabulary.specials == SpecialTokens("<pad>", "<unk>", "<s>", "</s>", "<mask>")
    assert loaded.encode("the").ids[0] >= 4


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("vocab.json", "{", "expected a JSON object"),
        ("vocab.json", "[1]", "expected an object of tokens"),
        ("vocab.json", '{"a": 0.5}', "whole numbers"),
        ("vocab.json", '{"a": 0, "b": 2}', "are not 0 to 1"),
        ("vocab.json", '{"a": 0}', "needs the token"),
        ("vocab.json", "[" * 100_000, "expected a JSON object"),
        ("merges.txt", "a b c\n", "line 1 is 'a b c', expected two parts"),
        ("merges.txt", "zz zy\n", "merge 1"),
        ("merges.txt", b"\xff\n", "byte 0 is not UTF-8"),
    ],
)
def test_damaged_files_are_named(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=f"{tmp_path}.*{said}"):
        ByteLevelTokenizer.load(tmp_path)


def test_missing_files_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected one of vocab.json"):
        ByteLevelTokenizer.load(tmp_path)
    with pytest.raises(UserError, match="1 of the 256 bytes are no tokens"):
        ByteLevelTokenizer([token for token in trained()[0] if token != "Ċ"], [])


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    random, refused = Random(1), 0
    for round_number in range(120):
        path = tmp_path / ("vocab.json" if round_number % 2 else "merges.txt")
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[random.randrange(len(whole))] = random.randrange(256)
        path.write_bytes(damaged)
        try:
            ByteLevelTokenizer.load(tmp_path)
        except UserError:
            refused += 1
        path.write_bytes(whole)
    assert 20 < refused <= 120


def test_readers_alone(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    assert read_tokens(tmp_path / "vocab.json") == trained()[0]
    assert tuple(read_merges(tmp_path / "merges.txt")) == trained()[1]
