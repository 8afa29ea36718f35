"""Reading published files in each form, and what broken ones say."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.arithmetic.data_sets import open_data
from hanformer.arithmetic.records import Problem, read_problems
from hanformer.arithmetic.splits import read_split
from hanformer.errors import UserError
from tests.arithmetic.published import ape210k, math23k

ROWS = [
    {"id": str(index), "original_text": f"小明有{index}个苹果", "equation": f"x={index}", "ans": str(index)}
    for index in range(1, 6)
]
PROBLEMS = [Problem(row["id"], row["original_text"], row["equation"], row["ans"]) for row in ROWS]

LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
LIST = json.dumps(ROWS)
CONCATENATED = "".join(json.dumps(row, indent=4) for row in ROWS) + "\n\n"


def _zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", "")
        archive.writestr("__MACOSX/._rows.json", b"\x00\x05")
        archive.writestr("folder/rows.json", text)
    return buffer.getvalue()


@pytest.mark.parametrize("text", [LINES, LIST, CONCATENATED, "\ufeff" + LINES, LIST + LINES[:0]])
@pytest.mark.parametrize("pack", [str.encode, _zipped, lambda text: gzip.compress(text.encode())])
def test_every_form_gives_the_same_problems(tmp_path: Path, text: str, pack: object) -> None:
    # The name says nothing: the form is recognised by content.
    path = tmp_path / "rows"
    path.write_bytes(pack(text))  # type: ignore[operator]
    assert read_problems(path) == PROBLEMS


def test_other_field_names(tmp_path: Path) -> None:
    row = {"id": 7, "text": "题", "equation": "N0", "answer": 3.5, "kind": "植树", "more": [1]}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(row))
    assert read_problems(path) == [Problem("7", "题", "N0", "3.5", "植树")]


def test_split_keeps_held_out_problems_out_of_train(tmp_path: Path) -> None:
    (tmp_path / "All.zip").write_bytes(_zipped(CONCATENATED))
    (tmp_path / "all_test.json.gz").write_bytes(gzip.compress(json.dumps(ROWS[1:2]).encode()))
    (tmp_path / "all_valid.json").write_text(json.dumps(ROWS[1:3]))
    (tmp_path / "README.md").write_text("not read")
    split = read_split(tmp_path)
    assert split.test == PROBLEMS[1:2]
    assert split.valid == PROBLEMS[2:3]
    assert split.train == [PROBLEMS[0], *PROBLEMS[3:]] and not split.copies
    assert read_split(tmp_path / "All.zip").train == PROBLEMS


def test_extra_data_brings_no_copies_of_test_problems(tmp_path: Path) -> None:
    """Another data set numbers its problems alike, and holds test problems with other numbers."""
    (tmp_path / "all.json").write_text(json.dumps(ROWS))
    (tmp_path / "all_test.json").write_text(json.dumps(ROWS[1:2]))
    other = {
        **ROWS[0],
        "original_text": "另一个数据集里的题：有3个梨",
    }  # under the id of a problem of the first
    near = {**ROWS[1], "id": "900", "original_text": "小明有77个苹果。"}
    same = {**ROWS[1], "original_text": "与测试题编号相同的另一道题：8加9"}
    (tmp_path / "extra.json").write_text(json.dumps([other, near, same]))
    split = read_split(tmp_path)
    texts = [problem.text for problem in split.train]
    assert split.copies == 1 and near["original_text"] not in texts
    assert texts == [*(row["original_text"] for row in ROWS if row is not ROWS[1]), *texts[4:]]
    assert sorted(texts[4:]) == sorted([other["original_text"], same["original_text"]])


def test_a_folder_that_is_all_held_out_says_so(tmp_path: Path) -> None:
    (tmp_path / "valid.json").write_text(json.dumps(ROWS))
    with pytest.raises(UserError, match="whose names hold test, valid or dev are held out"):
        open_data(str(tmp_path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found none"),
        (LINES.encode()[:-9], r"record 5 \(character \d+\): no complete JSON"),
        (LIST.encode()[:-9], r"record 5 \(character \d+\): no complete JSON"),
        (b"[1, 2]", r"record 1 \(character 1\): expected a JSON object, found '1'"),
        (
            LINES.encode() + b'{"id": "6"}',
            "record 6: the field original_text/text/question, equation is missing; found id",
        ),
        (b'{"id": ["1"]}', "record 1: the field id is list"),
        (b'{"id": "1", "text": "\xff"}', "byte 22 is not UTF-8"),
        (b"[" * 100000, "record 1"),
        (b"1" * 5000, "found '1'"),
        (gzip.compress(LINES.encode(), mtime=0)[:-20], "truncated or damaged"),
        (_zipped(LINES)[:-30], "truncated or damaged"),
        (b"PK\x03\x04 and nothing else", "truncated or damaged"),
        ('[{"id": "1", "text": "题'.encode()[:-1], "within a character; the file is truncated"),
        (b"\x89PNG\r\n", "UTF-8"),
    ],
)
def test_broken_files_say_where(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_problems(path)
    assert "broken.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_paths(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.json: cannot be read"):
        read_split(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="found none"):
        read_split(tmp_path)


@settings(max_examples=100)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=40).map(lambda tail: b"PK\x03\x04" + tail),
        st.binary(max_size=40).map(lambda tail: b"\x1f\x8b\x08" + tail),
        st.tuples(st.integers(0, 400), st.binary(max_size=3)).map(
            lambda cut: gzip.compress(LINES.encode(), mtime=0)[: cut[0]] + cut[1]
        ),
        st.tuples(st.integers(0, 500), st.binary(max_size=3)).map(
            lambda cut: _zipped(LINES)[: cut[0]] + cut[1]
        ),
        st.tuples(st.integers(0, 500), st.binary(max_size=3)).map(
            lambda cut: LINES.encode()[: cut[0]] + cut[1]
        ),
    )
)
def test_any_bytes_give_problems_or_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes(data)
    try:
        assert all(isinstance(problem, Problem) for problem in read_problems(path))
    except UserError as error:
        assert "fuzz" in str(error)


def test_published_files(data_folder: Path) -> None:
    split = math23k(data_folder)
    assert (len(split.train), len(split.test), split.valid) == (22162, 1000, [])
    assert split.test[0].equation == "x=44*20"
    assert len(ape210k(data_folder)) == 5000
