"""Data sets as they are published: folders, files, zips, and tables under a misleading name."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from hanformer.data.published import open_splits
from hanformer.data.tables import Column, read_table
from hanformer.errors import UserError

BOTH = (Column("text", ("text",), 0), Column("label", ("label",), -1))


def packed(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def read(path: Path) -> dict[str, list[tuple[str, ...]]]:
    with open_splits(path) as splits:
        return {split: read_table(file, BOTH) for split, file in splits.items()}


def test_a_zip_is_read_as_what_it_holds(tmp_path: Path) -> None:
    path = packed(
        tmp_path / "set.zip",
        {"set/": "", "set/a.train.data": "x\t1\n", "set/a.test.data": "y\t2\n", "__MACOSX/a.train.data": "?"},
    )
    assert read(path) == {"train": [("x", "1")], "test": [("y", "2")]}
    with open_splits(path) as splits:
        places = list(splits.values())
        assert all(place.is_file() for place in places)
    assert not any(place.exists() for place in places)
    assert read(packed(tmp_path / "one.zip", {"reviews.csv": "text,label\nx,1\n"})) == {"train": [("x", "1")]}


def test_nothing_is_written_outside_of_its_room(tmp_path: Path) -> None:
    path = packed(tmp_path / "evil.zip", {"../../train.tsv": "x\t1\n", "/test.tsv": "y\t2\n"})
    assert read(path) == {"train": [("x", "1")], "test": [("y", "2")]}
    assert [file.name for file in tmp_path.iterdir()] == ["evil.zip"]


def test_tabs_are_seen_under_the_name_of_csv(tmp_path: Path) -> None:
    for name, text in (("train.csv", "x, y\t1\n"), ("dev.csv", "text,label\nx,1\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read(tmp_path) == {"train": [("x, y", "1")], "valid": [("x", "1")]}


def test_errors_name_what_the_user_named(tmp_path: Path) -> None:
    twice = packed(tmp_path / "twice.zip", {"a/train.tsv": "x\t1\n", "b/train.tsv": "x\t1\n"})
    with pytest.raises(UserError, match=r"twice.zip: two files in it are named train.tsv"):
        read(twice)
    none = packed(tmp_path / "none.zip", {"a.tsv": "x\t1\n", "b.tsv": "x\t1\n"})
    with pytest.raises(UserError, match=f"{none}: no file named train.*; it holds a.tsv, b.tsv: rename"):
        read(none)
    bad = packed(tmp_path / "bad.zip", {"train.tsv": "x\n", "test.tsv": "text\tlabel\nx\n"})
    with pytest.raises(UserError, match=f"{bad}/test.tsv: row 2 has 1 columns"):
        read(bad)
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"broken.zip: cannot be unpacked"):
        read(tmp_path / "broken.zip")
    with pytest.raises(UserError, match="no such file or folder"):
        read(tmp_path / "nothing")
