"""Reading and writing .model files: nothing is lost, and nothing damaged gets through."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.sentencepiece_kinds import PLAIN
from hanformer.text.sentencepiece_model import (
    CONTROL,
    UNKNOWN,
    Cutting,
    Normalising,
    Piece,
    SentencePieceModel,
    read_bounded,
)
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.text.sentencepiece_material import MAKES, library, model, model_bytes

UNK = Piece("<unk>", 0.0, UNKNOWN)


@pytest.mark.parametrize("make", MAKES)
def test_reads_what_the_library_wrote(make: str) -> None:
    read, peer = model(make), library(make)
    assert [piece.text for piece in read.pieces] == [
        peer.id_to_piece(number) for number in range(peer.get_piece_size())
    ]
    assert [piece.score for piece in read.pieces] == [
        peer.get_score(number) for number in range(len(read.pieces))
    ]
    for number, piece in enumerate(read.pieces):
        assert (piece.kind == CONTROL) == peer.is_control(number)
    assert read.cutting.byte_fallback == (MAKES[make].get("byte_fallback") is True)
    assert read.cutting.blank_behind == ("treat_whitespace_as_suffix" in MAKES[make])


@pytest.mark.parametrize("make", MAKES)
def test_written_file_is_the_read_one(make: str, tmp_path: Path) -> None:
    model(make).save(tmp_path / "a.model")
    assert SentencePieceModel.load(tmp_path / "a.model").pieces == model(make).pieces
    assert len(model(make).to_bytes()) >= len(model_bytes(make)) - 4 * len(model(make).pieces)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.floats(width=32, allow_nan=False, allow_infinity=False),
        ),
        unique_by=lambda item: item[0],
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.binary(max_size=9),
    st.integers(1, 4),
)
def test_any_model_survives_writing(
    entries: list[tuple[str, float]], before: bool, single: bool, escape: bool, rules: bytes, algorithm: int
) -> None:
    pieces = [UNK, *(Piece(text, score) for text, score in entries if text != "<unk>")]
    made = SentencePieceModel(
        tuple(pieces), Cutting(algorithm, before, single), Normalising(rules, before, single, escape)
    )
    read = SentencePieceModel.from_bytes(made.to_bytes())
    assert (read.pieces, read.cutting, read.normalising) == (made.pieces, made.cutting, made.normalising)
    assert read.to_bytes() == made.to_bytes()


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ((UNK, Piece("a"), Piece("a")), "'a' has the ids 1 and 2"),
        ((Piece("a"),), "0 pieces stand for what is unknown"),
        ((UNK, Piece("b", 0.0, UNKNOWN)), "2 pieces stand for"),
        ((UNK, Piece("")), "piece 1"),
        ((UNK, Piece("a", float("nan"))), "piece 1"),
        ((UNK, Piece("a", 0.0, 9)), "kind from 1 to 6"),
    ],
)
def test_pieces_are_checked(pieces: tuple[Piece, ...], said: str) -> None:
    with pytest.raises(UserError, match=f"^somewhere: .*{said}"):
        SentencePieceModel(pieces, origin="somewhere")


@pytest.mark.parametrize(
    "raw", [b"", b"\x00", b"hello world", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"PK\x03\x04"]
)
def test_other_files_are_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(raw)
    with pytest.raises(UserError, match="x.model: not a SentencePiece model"):
        SentencePieceModel.load(tmp_path / "x.model")


def test_missing_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        SentencePieceModel.load(tmp_path / "none.model")
    (tmp_path / "big").write_bytes(b"12345")
    with pytest.raises(UserError, match="5 bytes, expected at most 4"):
        read_bounded(tmp_path / "big", 4)


@pytest.mark.parametrize(("make", "count"), [("llama", 400), ("t5", 40)])
def test_mutated_files_give_a_model_or_a_clear_error(make: str, count: int) -> None:
    """Hundreds of damaged files: never another exception, never a crash of the library."""
    random, raw = Random(7), model_bytes(make)
    refused = 0
    for _ in range(count):
        damaged = bytearray(raw)
        for _ in range(random.randint(1, 3)):
            damaged[random.randrange(len(raw))] = random.randrange(256)
        if random.random() < 0.2:
            del damaged[random.randrange(len(damaged)) :]
        refused += _is_refused(bytes(damaged))
    assert count // 10 < refused < count


def _is_refused(raw: bytes) -> bool:
    try:
        tokenizer = SentencePieceTokenizer(SentencePieceModel.from_bytes(raw), PLAIN)
    except UserError:
        return True
    found = tokenizer.encode("今天 Ａé\u0301x天气①")
    assert len(found.ids) == len(found.offsets)
    return False
