"""Labelled rows: every file form gives the same rows, and what is missing is named."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.data.tables import Column, find_splits, iterate_table, read_table
from hanformer.errors import UserError

TEXT = Column("text", ("text", "content"), 0)
LABEL = Column("label", ("label",), -1)
NOTE = Column("note", ("note",), 1, optional=True)
ROWS = [("今天, 天气“很”好", "好"), ("差\u2028评", "坏"), ('a "b" c', "好")]


def tsv(rows: list[tuple[str, str]], header: bool) -> bytes:
    lines = ["content\tlabel"] * header + ["\t".join(row) for row in rows]
    return "\n".join(lines).encode()


def comma(rows: list[tuple[str, str]], header: bool) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerows([("text", "label")] * header + list(rows))
    return stream.getvalue().encode()


def records(rows: list[tuple[str, str]], header: bool) -> bytes:
    return "\n".join(json.dumps({"label": b, "text": a}, ensure_ascii=False) for a, b in rows).encode()


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(("suffix", "write"), [(".tsv", tsv), (".csv", comma), (".jsonl", records)])
def test_every_form_gives_the_same_rows(tmp_path: Path, suffix, write, header, packing) -> None:
    path = tmp_path / f"train{suffix}{packing}"
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[packing]
    path.write_bytes(pack(write(ROWS, header)))
    assert read_table(path, (TEXT, LABEL)) == ROWS


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n\x00"), min_size=1),
            st.sampled_from("01"),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_csv(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(comma(rows, header=True))
    assert read_table(path, (TEXT, LABEL)) == rows


def test_columns_are_chosen_by_name_and_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("id\tsaid\tclass\n7\t好\tx\n", encoding="utf-8")
    assert read_table(path, (TEXT.named("said"), LABEL.named("class"))) == [("好", "x")]
    assert read_table(path, (TEXT.named("2"), LABEL))[1] == ("好", "x")
    assert read_table(path, (TEXT.named("said"), LABEL.named("class"), NOTE.named("id"))) == [
        ("好", "x", "7")
    ]
    with pytest.raises(UserError, match="no column 'spoken'"):
        read_table(path, (TEXT.named("spoken"), LABEL))
    with pytest.raises(UserError, match="row 1 has 3 columns, too few for text and label"):
        read_table(path, (TEXT.named("4"), LABEL))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tsv", b"", "holds no rows"),
        ("a.tsv", b"one\n", "row 1 has 1 columns"),
        ("a.tsv", b"text\tlabel\n\xff\t1\n", "line 2 is not UTF-8"),
        ("a.csv", b'text,label\n"never closed,1\n', "comma-separated"),
        ("a.csv", b'"a; b";1\n', "semicolons"),
        ("a.jsonl", b'{"text": "a"}\n', "record 1 has no 'label'"),
        ("a.jsonl", b"[1]", "expected a JSON object"),
        ("a.tsv.xz", lzma.compress(b"text\tlabel\n1\t2\n")[:-9], "truncated or damaged"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_table(path, (TEXT.named("text") if b"text" in content else TEXT.named("2"), LABEL))


def test_rows_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n\na\tb\n", encoding="utf-8")
    assert list(iterate_table(path, (TEXT, LABEL))) == [(3, ("a", "b"))]


def test_splits_are_found_by_name(tmp_path: Path) -> None:
    for name in ("train.tsv.gz", "sst.dev.tsv", "test-public.json", "README.md", "training_notes.txt"):
        (tmp_path / name).touch()
    found = {split: file.name for split, file in find_splits(tmp_path).items()}
    assert found == {"train": "train.tsv.gz", "valid": "sst.dev.tsv", "test": "test-public.json"}
    assert find_splits(tmp_path / "sst.dev.tsv") == {"train": tmp_path / "sst.dev.tsv"}
    (tmp_path / "train2.train.csv").touch()
    with pytest.raises(UserError, match="both look like train"):
        find_splits(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        find_splits(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no file named train"):
        find_splits(tmp_path / "empty")


def test_a_zipped_table_is_read_by_the_name_within(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "reviews.zip", "w") as archive:
        archive.writestr("reviews/all.csv", 'label,review\n1,"well, good"\n')
    columns = [Column("text", ("review",), 0), Column("label", ("label",), 1)]
    assert read_table(tmp_path / "reviews.zip", columns) == [("well, good", "1")]
    with zipfile.ZipFile(tmp_path / "records.zip", "w") as archive:
        archive.writestr("records.json", '{"review": "good", "label": 1}')
    assert read_table(tmp_path / "records.zip", columns) == [("good", 1)]
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="truncated or damaged"):
        read_table(tmp_path / "broken.zip", columns)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(UserError, match="empty.zip: holds no rows"):
        read_table(tmp_path / "empty.zip", columns)


def test_a_number_is_never_a_name(tmp_path: Path) -> None:
    """Pairs whose first row ends in the label 1: column 1 is the first text, not the label."""
    (tmp_path / "pairs.tsv").write_text("甲\t乙\t1\n丙\t丁\t0\n", encoding="utf-8")
    for number, expected in (("1", ["甲", "丙"]), ("2", ["乙", "丁"]), ("3", ["1", "0"])):
        assert read_table(tmp_path / "pairs.tsv", [TEXT.named(number)]) == [(value,) for value in expected]
    (tmp_path / "named.tsv").write_text("id\tlabel\t1\n7\t好\t甲\n", encoding="utf-8")
    assert read_table(tmp_path / "named.tsv", [TEXT.named("3"), LABEL]) == [("甲", "好")]


def test_a_header_without_one_of_the_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tclass of it\n好\tx\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"no label \(label\); it has text, class of it"):
        read_table(path, (TEXT, LABEL))
    assert read_table(path, (TEXT, LABEL.named("class of it"))) == [("好", "x")]
    assert read_table(path, (TEXT, LABEL.named("2"))) == [("好", "x")]
    assert read_table(path, (TEXT.named("1"), LABEL.named("2")))[0] == ("text", "class of it")
    path.write_text("note\tgood\n好\tx\n", encoding="utf-8")
    with pytest.raises(UserError, match="names other columns and no text"):
        read_table(path, (TEXT, LABEL, NOTE))


def test_capitals_count_where_they_tell_columns_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Label,TEXT\n1,好\n", encoding="utf-8")
    assert read_table(path, (TEXT, LABEL)) == [("好", "1")]
    path.write_text("Label,label,text\n1,2,好\n", encoding="utf-8")
    assert read_table(path, (TEXT, LABEL)) == [("好", "2")]


def test_a_long_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "长" * 200_000 + ",1\n", encoding="utf-8")
    assert len(read_table(tmp_path / "a.csv", (TEXT, LABEL))[0][0]) == 200_000
