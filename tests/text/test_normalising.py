"""Normalisation equals the library's own, and every character knows where it came from."""

from __future__ import annotations

import struct
import unicodedata
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.character_map import CharacterMap
from hanformer.text.normalising import Normaliser
from hanformer.text.placed_text import PlacedText, as_it_is, readable
from hanformer.text.sentencepiece_model import USER_DEFINED, Normalising
from tests.text.sentencepiece_material import MAKES, library, model

AWKWARD = " \u3000\t\n▁．，。ABCabc中文天气㍿℃ﬁ\u0301\u0308\u200b\x00\x01éﾞｶ가각\u1100\u1161<eop>.()“ ”‥…0"
texts = st.text(st.sampled_from(AWKWARD) | st.characters(exclude_categories=["Cs"]), max_size=14)


def normaliser(make: str) -> Normaliser:
    read = model(make)
    defined = [piece.text for piece in read.pieces if piece.kind == USER_DEFINED]
    return Normaliser(read.normalising, defined, blank_behind=read.cutting.blank_behind)


@pytest.mark.parametrize("make", MAKES)
@given(text=texts)
def test_equals_the_library(make: str, text: str) -> None:
    assert normaliser(make)(text).text == library(make).normalize(text)


@pytest.mark.parametrize("make", ["t5", "bert"])
def test_every_character_of_the_first_plane(make: str) -> None:
    ours, peer = normaliser(make), library(make)
    wrong = [
        code
        for code in range(0, 0x10000, 3)
        if not 0xD800 <= code < 0xE000 and ours(f"a{chr(code)}b").text != peer.normalize(f"a{chr(code)}b")
    ]
    assert not wrong


@given(text=texts)
def test_places(text: str) -> None:
    """Spans lie in the text and never go back; what is not changed stands for itself."""
    made = normaliser("t5")(text)
    assert len(made.text) == len(made.starts) == len(made.ends)
    spans = list(zip(made.starts, made.ends, strict=True))
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    for character, (start, end) in zip(made.text, spans, strict=True):
        source = text[start:end]
        if character != "▁" and character not in source:
            assert character in unicodedata.normalize("NFKC", source) + "\ufffd "


def test_what_one_character_becomes_stands_for_it() -> None:
    made = normaliser("t5")("a ㍿e\u0301")
    assert made.text == "▁a▁株式会社e\u0301" or made.text == "▁a▁株式会社é"
    assert made.starts[:4] == [0, 0, 1, 2] and made.ends[:4] == [0, 1, 2, 3]
    assert made.starts[3:7] == [2] * 4 and made.ends[3:7] == [3] * 4


def _blob(trie: list[int], texts: bytes) -> bytes:
    packed = struct.pack(f"<{len(trie)}I", *trie)
    return struct.pack("<I", len(packed)) + packed + texts


def test_a_map_written_by_hand() -> None:
    """One key, "a": the root's children lie at base 256; "a" holds a value, whose unit points to "xy"."""
    units = [0] * 1024
    units[0] = (256 >> 8) << 10 | 1 << 9
    place = 256 ^ ord("a")
    units[place] = ord("a") | 1 << 8 | (512 >> 8) << 10 | 1 << 9
    units[place ^ 512] = 1 << 31 | 0
    rules = CharacterMap(_blob(units, b"xy\0"))
    assert rules.longest("ba", 1) == (2, "xy") and rules.longest("ba", 0) is None
    assert rules.alone() == {"a"} and rules.openings() == (set(), set())
    damaged = list(units)
    damaged[place ^ 512] = 1 << 31 | 7
    with pytest.raises(UserError, match="here: its character map is damaged"):
        CharacterMap(_blob(damaged, b"xy\0"), "here")
    damaged[place ^ 512] = 1 << 31
    with pytest.raises(UserError, match="does not end"):
        CharacterMap(_blob(damaged, b"xy"), "here")


@pytest.mark.parametrize("blob", [b"\1", b"\0\0\0\0", b"\xff\xff\xff\x7f1234", b"\3\0\0\0abc"])
def test_broken_maps_are_refused(blob: bytes) -> None:
    with pytest.raises(UserError, match="character map is damaged"):
        Normaliser(Normalising(blob))


def test_mutated_maps_are_read_or_refused() -> None:
    random, blob = Random(3), model("t5").normalising.rules
    size = struct.unpack_from("<I", blob)[0]
    refused = 0
    for _ in range(25):
        damaged = bytearray(blob)
        for _ in range(30):
            damaged[random.randrange(4, 4 + size)] = random.randrange(256)
        try:
            made = Normaliser(Normalising(bytes(damaged)))("天ａ\u0301 ①가x")
        except UserError:
            refused += 1
            continue
        assert len(made.text) == len(made.starts)
    assert refused > 5


def test_a_circle_ends() -> None:
    """A trie whose every unit is its own child's parent is walked by nodes, which are finite."""
    units = [ord("a") if place & 0xFF == ord("a") else 0 for place in range(256)]
    rules = CharacterMap(_blob(units, b"\0"))
    assert rules.longest("a" * 1000, 0) is None


def test_through_two_steps() -> None:
    first = PlacedText("ab c", [0, 1, 2, 2], [1, 2, 2, 3])
    second = PlacedText("_xc", [0, 0, 3], [0, 2, 4])
    assert second.through(first) == PlacedText("_xc", [0, 0, 2], [0, 2, 3])
    assert PlacedText("_", [4], [4]).through(first).starts == [3]
    assert as_it_is("ab").span(0, 2) == (0, 2) and readable("a\ud800b") == "a\ufffdb"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=8))
def test_spans_are_single_spans(parts: list[tuple[bool, int]]) -> None:
    place, starts, ends = 0, [], []
    for inserted, count in parts:
        for _ in range(count):
            starts.append(place)
            place += not inserted
            ends.append(place)
    made = PlacedText("x" * len(starts), starts, ends)
    lengths, border = [count for _, count in parts], 0
    for length, span in zip(lengths, made.spans(lengths), strict=True):
        assert span == made.span(border, border + length)
        border += length
