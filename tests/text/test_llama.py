"""llama2.c's tokenizer files: the same ids as Llama's own model, and damage is named."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given

from hanformer.errors import UserError
from hanformer.text.llama import load_llama2c, read_llama2c
from hanformer.text.sentencepiece_kinds import LLAMA
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.text.sentencepiece_material import library, model
from tests.text.test_normalising import texts


def exported() -> bytes:
    """The model "llama" as llama2.c's tokenizer.py exports one."""
    parts = [struct.pack("<i", 27)]
    for number, piece in enumerate(model("llama").pieces):
        text = {1: "\n<s>\n", 2: "\n</s>\n"}.get(number, piece.text).replace("▁", " ").encode("utf-8")
        parts.append(struct.pack("<fi", piece.score, len(text)) + text)
    return b"".join(parts)


RAW = exported()
TOKENIZER = SentencePieceTokenizer(read_llama2c(RAW), LLAMA)


@given(texts)
def test_ids_are_those_of_the_original(text: str) -> None:
    found = TOKENIZER.encode(text)
    assert found.ids == [1, *library("llama").encode(text)]
    assert TOKENIZER.decode(found.ids) == text


def naive(text: str) -> list[int]:
    """The loop of the definition: join the neighbours whose piece has the best score, the first of equals."""
    ids = {piece.text: number for number, piece in enumerate(model("llama").pieces)}
    scores = [piece.score for piece in model("llama").pieces]
    parts = list("▁" + text.replace(" ", "▁")) if text else []
    while True:
        joins = [
            (-scores[ids[left + right]], place)
            for place, (left, right) in enumerate(pairwise(parts))
            if left + right in ids
        ]
        if not joins:
            break
        _, place = min(joins)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    found: list[int] = []
    for part in parts:
        found += [ids[part]] if part in ids else [3 + byte for byte in part.encode("utf-8")]
    return found


@pytest.mark.parametrize(
    "text", ["", "the cat sat on the mat", "今天天气很好 hello𠮷", "  a  b\n\n", "small textthe"]
)
def test_ids_are_those_of_the_definition(text: str) -> None:
    assert TOKENIZER.pieces(text).ids == naive(text)


def test_saved_as_a_model_file(tmp_path: Path) -> None:
    (tmp_path / "tok.bin").write_bytes(RAW)
    load_llama2c(tmp_path / "tok.bin").save(tmp_path / "new")
    assert SentencePieceTokenizer.load(tmp_path / "new").encode("the 天") == TOKENIZER.encode("the 天")


def test_damaged_files_are_named() -> None:
    with pytest.raises(UserError, match=r"here: piece \d+ goes beyond the file's"):
        read_llama2c(RAW[:-1], "here")
    with pytest.raises(UserError, match="pieces 3 to 258 are not"):
        read_llama2c(RAW[:4], "here")
    random = Random(5)
    refused = 0
    for _ in range(300):
        damaged = bytearray(RAW)
        damaged[random.randrange(len(RAW))] = random.randrange(256)
        try:
            read_llama2c(bytes(damaged))
        except UserError:
            refused += 1
    assert 100 < refused <= 300


def test_stories260k(data_folder: Path) -> None:
    """The published tokens of llama2.c's own sample, both ways."""
    folder = data_folder / "checkpoints" / "stories260K"
    tokenizer = load_llama2c(folder / "tok512.bin")
    expected = json.loads((folder / "expected_greedy_derived.json").read_text(encoding="utf-8"))
    assert tokenizer.encode(expected["text"]).ids == expected["token_ids"]
    assert tokenizer.decode(expected["token_ids"]) == expected["text"]
