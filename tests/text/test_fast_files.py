"""tokenizer.json: what it can say and we can do gives the same ids; the rest is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from hanformer.errors import UserError
from hanformer.text import fast_files
from hanformer.text.load import load_tokenizer
from hanformer.text.sentencepiece_model import UNKNOWN
from tests.text.sentencepiece_material import library, model
from tests.text.test_byte_level import END, TOKENIZER, trained
from tests.text.test_normalising import texts


def unigram() -> tokenizers.Tokenizer:
    """The model "t5" as transformers converts one."""
    read = model("t5")
    unknown = next(place for place, piece in enumerate(read.pieces) if piece.kind == UNKNOWN)
    vocabulary = [(piece.text, piece.score) for piece in read.pieces]
    peer = tokenizers.Tokenizer(models.Unigram(vocabulary, unknown, byte_fallback=True))
    peer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(read.normalising.rules),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(tokenizers.Regex(" {2,}"), "▁"),
        ]
    )
    peer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    peer.add_special_tokens([AddedToken(name) for name in ("<pad>", "</s>", "<unk>", "<extra_id_0>")])
    return peer


def byte_level() -> tokenizers.Tokenizer:
    peer = tokenizers.Tokenizer(
        models.BPE({token: number for number, token in enumerate(trained()[0][:-1])}, list(trained()[1]))
    )
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    peer.add_special_tokens([AddedToken(END, special=True)])
    return peer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fast")
    for name, peer in (("unigram", unigram()), ("byte_level", byte_level())):
        (folder / name).mkdir()
        peer.save(str(folder / name / "tokenizer.json"))
    return folder


def test_unigram_gives_the_ids_of_the_model_file(folder: Path) -> None:
    tokenizer = load_tokenizer(folder / "unigram")
    size = len(model("t5").pieces)

    @given(texts)
    def same(text: str) -> None:
        assert tokenizer.encode(text, special_tokens=False).ids == library("t5").encode(text)

    same()
    assert tokenizer.encode("天").tokens[-1] == "</s>" and tokenizer.vocabulary.pad_id == 0
    assert tokenizer.encode("天<extra_id_0>", special_tokens=False).ids[-1] == size


def test_byte_level_gives_the_ids_of_the_two_files(folder: Path) -> None:
    tokenizer, peer = load_tokenizer(folder / "byte_level" / "tokenizer.json"), byte_level()

    @given(texts)
    def same(text: str) -> None:
        assert tokenizer.encode(text) == TOKENIZER.encode(text)
        assert tokenizer.encode(text).ids == peer.encode(text).ids

    same()
    assert tokenizer.encode(f"a{END}").tokens[-1] == END


def changed(folder: Path, name: str, keys: str, value: Any, target: Path) -> Path:
    """A copy of a file with one entry replaced."""
    whole = json.loads((folder / name / "tokenizer.json").read_text(encoding="utf-8"))
    *path, last = keys.split(".")
    section = whole
    for key in path:
        section = section[key]
    section[last] = value
    (target / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("name", "keys", "value", "said"),
    [
        ("unigram", "normalizer", {"type": "Lowercase"}, "normalizer of the type Lowercase"),
        ("unigram", "normalizer", {"type": "Precompiled", "precompiled_charsmap": "a"}, "map is damaged"),
        ("unigram", "normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}, "map is damaged"),
        ("unigram", "pre_tokenizer", {"type": "Whitespace"}, "pre-tokenizer of the type Whitespace"),
        ("unigram", "pre_tokenizer", None, "0 Metaspace"),
        ("unigram", "model.vocab", [["a"]], "piece 0 is"),
        ("unigram", "model.vocab", [["a", "b"]], "piece 0 has the score 'b'"),
        ("unigram", "model.unk_id", None, "stand for what is unknown"),
        ("unigram", "model", [], "model is"),
        ("unigram", "model.type", "Sponge", "type Sponge, expected WordPiece"),
        ("unigram", "added_tokens", [1], "special token is 1"),
        ("byte_level", "normalizer", {"type": "NFC"}, "a normalizer"),
        ("byte_level", "pre_tokenizer.add_prefix_space", True, "other than GPT-2's"),
        ("byte_level", "pre_tokenizer.use_regex", False, "other than GPT-2's"),
        ("byte_level", "model.vocab", {"a": 3}, "are not 0 to"),
        ("byte_level", "model.merges", [["a"]], "a merge is"),
        ("byte_level", "added_tokens", [{"content": "x"}], "expected content and id"),
    ],
)
def test_what_is_not_done_is_refused(
    folder: Path, name: str, keys: str, value: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"tokenizer.json.*{said}"):
        load_tokenizer(changed(folder, name, keys, value, tmp_path))


def test_mutated_files_are_read_or_refused(folder: Path, tmp_path: Path) -> None:
    random, refused, path = Random(2), 0, tmp_path / "tokenizer.json"
    whole = (folder / "byte_level" / "tokenizer.json").read_bytes()
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(2):
            damaged[random.randrange(len(whole))] = random.choice(b'{}[]",:0x')
        path.write_bytes(damaged)
        try:
            load_tokenizer(tmp_path)
        except UserError:
            refused += 1
    assert 50 < refused <= 150


def test_model_types(folder: Path) -> None:
    assert fast_files.model_type(folder / "unigram" / "tokenizer.json") == "Unigram"
    assert fast_files.model_type(folder / "byte_level" / "tokenizer.json") == "ByteLevel"
