"""Texts from files of every kind, and vectors written whole or not at all."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest

from hanformer import encode
from hanformer.errors import UserError
from hanformer.similarity import encode as encoding
from hanformer.similarity.encode import encoder_of
from hanformer.similarity.vector_files import read_texts, write_vectors
from tests.similarity.tiny import tiny_encoder, tiny_tokenizer

TEXTS = ["今天", "", "天气很好", "雨"]
LINES = "\n".join(TEXTS).encode() + b"\n"
RECORDS = b"".join(json.dumps({"id": n, "text": text}).encode() + b"\n" for n, text in enumerate(TEXTS))


def given(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Standard input holds this."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("a.txt", LINES, None),
        ("a.txt.gz", gzip.compress(LINES, mtime=0), None),
        ("a.jsonl", RECORDS, "text"),
        ("a.jsonl.gz", gzip.compress(RECORDS, mtime=0), "text"),
    ],
)
def test_texts_are_read(tmp_path: Path, name: str, content: bytes, field: str | None) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_texts(tmp_path / name, field) == TEXTS


@pytest.mark.parametrize(
    ("content", "field"), [(LINES, None), (LINES.replace(b"\n", b"\r\n"), None), (RECORDS, "text")]
)
def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, content: bytes, field: str | None) -> None:
    given(monkeypatch, content)
    assert read_texts("-", field) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "field", "said"),
    [
        ("a.txt", b"", None, "found none"),
        ("a.txt", b"\xff\xfe\xff", None, "not UTF-8"),
        ("a.txt.gz", gzip.compress(LINES, mtime=0)[:-9], None, "truncated"),
        ("a.jsonl", RECORDS, None, "--field"),
        ("a.jsonl", RECORDS, "title", "record 1 has no field 'title'; it holds id, text"),
        ("a.jsonl", RECORDS, "id", "record 1 has 0 in the field 'id', expected a text in quotes"),
        ("a.jsonl", b'{"text": ', "text", "JSON"),
    ],
)
def test_bad_files_are_refused(
    tmp_path: Path, name: str, content: bytes, field: str | None, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_texts(tmp_path / name, field)


@pytest.mark.parametrize(
    ("content", "field", "said"),
    [
        (b"", None, "found none"),
        (b"a\n\xff", None, "line 2"),
        (b'{"text": "a"}\n{', "text", "line 2"),
        (b"[1]\n", "text", "record 1 is a list, expected an object"),
    ],
)
def test_bad_standard_input_is_refused(
    monkeypatch: pytest.MonkeyPatch, content: bytes, field: str | None, said: str
) -> None:
    given(monkeypatch, content)
    with pytest.raises(UserError, match=said):
        read_texts("-", field)


def test_vectors_are_those_of_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "WINDOW", 3)
    model, tokenizer = tiny_encoder(), tiny_tokenizer()
    told = write_vectors(tmp_path / "v.npy", encoder_of(model, tokenizer, token_budget=2), TEXTS)
    found = np.load(tmp_path / "v.npy")
    assert found.dtype == np.float32 and len(told) == 2
    np.testing.assert_allclose(found, encode(model, tokenizer, TEXTS).numpy(), rtol=1e-4, atol=1e-5)


def test_an_error_leaves_the_earlier_file(tmp_path: Path) -> None:
    stages = encoder_of(tiny_encoder(), tiny_tokenizer())
    write_vectors(tmp_path / "v.npy", stages, TEXTS)
    before = (tmp_path / "v.npy").read_bytes()

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_vectors(tmp_path / "v.npy", stages, TEXTS * 2, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["v.npy"]
    assert (tmp_path / "v.npy").read_bytes() == before


def test_other_names_are_refused(tmp_path: Path) -> None:
    stages = encoder_of(tiny_encoder(), tiny_tokenizer())
    for name in ("v.txt", "."):
        with pytest.raises(UserError, match=r"\.npy"):
            write_vectors(tmp_path / name, stages, TEXTS)
