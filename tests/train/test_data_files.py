"""Files of a run are known again, and a change is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.train.data_files import changed_files, check_unchanged, fingerprints


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.tsv", "valid.tsv"):
        (folder / name).write_text(f"{name}\n" * 50, encoding="utf-8")
    return folder


def test_the_same_files_have_the_same_fingerprints(data: Path) -> None:
    saved = fingerprints(str(data))
    assert set(saved) == {"train.tsv", "valid.tsv"} and saved["train.tsv"] != saved["valid.tsv"]
    assert fingerprints(str(data / "train.tsv")) == {"train.tsv": saved["train.tsv"]}
    (data / "notes.txt").write_text("new files do not matter", encoding="utf-8")
    check_unchanged(data, saved, str(data))
    assert fingerprints("generated") == {}


def test_a_changed_or_missing_file_is_named(data: Path) -> None:
    saved = fingerprints(str(data))
    text = (data / "train.tsv").read_text(encoding="utf-8")
    (data / "train.tsv").write_text(text[:-2] + "x\n", encoding="utf-8")
    (data / "valid.tsv").unlink()
    assert changed_files(saved, fingerprints(str(data))) == ["train.tsv", "valid.tsv"]
    with pytest.raises(UserError, match=r"not what the run began with: train.tsv, valid.tsv; put them back"):
        check_unchanged(data, saved, str(data))
    check_unchanged(data, None, str(data))


def test_files_beside_the_data_are_watched(data: Path, tmp_path: Path) -> None:
    classes = tmp_path / "class.txt"
    classes.write_text("好\n差\n", encoding="utf-8")
    saved = fingerprints(str(data), ("", str(classes), str(data), str(tmp_path / "none")))
    assert set(saved) == {"train.tsv", "valid.tsv", str(classes)}
    classes.write_text("差\n好\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"not what the run began with: .*class\.txt; put them back"):
        check_unchanged(data, saved, str(data), (str(classes),))


@given(st.integers(1, 300_000), st.data())
@settings(deadline=None, derandomize=True, max_examples=20)
def test_small_files_are_read_from_end_to_end(
    tmp_path_factory: pytest.TempPathFactory, size: int, draw: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("small") / "file"
    content = bytearray(size)
    path.write_bytes(content)
    before = fingerprints(str(path))
    content[draw.draw(st.integers(0, size - 1))] ^= 1
    path.write_bytes(content)
    assert changed_files(before, fingerprints(str(path))) == ["file"]


def test_a_large_file_is_sampled_at_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "large"
    content = bytearray(9 << 20)
    found = set()
    for place in (None, 0, len(content) - 1):
        if place is not None:
            content[place] += 1
        path.write_bytes(content)
        found.add(fingerprints(str(path))["large"])
    assert len(found) == 3
