"""Readers of files: every packing, every shape of JSON, every defect named."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.data import files
from hanformer.data.files import iterate_json_records, lines, read_json_records
from hanformer.errors import UserError

RECORDS = [{"id": "1", "text": "小明有3个苹果，\n又买了{2}个]"}, {"id": "2", "nested": [{"a": [1]}]}, {}]


def written(shape: str) -> str:
    if shape == "list":
        return json.dumps(RECORDS, ensure_ascii=False, indent=1)
    indent = 4 if shape == "concatenated" else None
    return "\n".join(json.dumps(record, ensure_ascii=False, indent=indent) for record in RECORDS)


def packed(folder: Path, data: bytes, packing: str) -> Path:
    if packing == "zip":
        path = folder / "data.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("README.md", "not JSON")
            archive.writestr("__MACOSX/data.json", "not JSON")
            archive.writestr("folder/data.json", data)
        return path
    path = folder / f"data.json{packing}"
    path.write_bytes(gzip.compress(data) if packing == ".gz" else data)
    return path


@pytest.mark.parametrize("packing", ["", ".gz", "zip"])
@pytest.mark.parametrize("shape", ["lines", "concatenated", "list"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_all_shapes_and_packings_give_the_same_records(tmp_path, packing, shape, mark):
    path = packed(tmp_path, mark + written(shape).encode(), packing)
    assert list(iterate_json_records(path)) == [(number + 1, record) for number, record in enumerate(RECORDS)]


@given(chunk=st.integers(1, 40), shape=st.sampled_from(["lines", "concatenated", "list"]))
def test_where_a_chunk_ends_does_not_matter(tmp_path_factory, chunk, shape):
    path = packed(tmp_path_factory.mktemp("chunks"), written(shape).encode(), "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_CHUNK", chunk)
        assert read_json_records(path) == RECORDS


@pytest.mark.parametrize("shape", ["lines", "concatenated", "list"])
def test_a_file_cut_anywhere_gives_its_first_records_and_a_named_error(tmp_path, shape):
    whole = written(shape).encode()
    for end in range(1, len(whole) - 3):
        path = packed(tmp_path, whole[:end], "")
        got = []
        try:
            for _, record in iterate_json_records(path):
                got.append(record)
        except UserError as error:
            assert str(path) in str(error)
        else:
            # Nothing is wrong with a file that ends after a complete object.
            assert shape != "list" and whole[:end].rstrip().endswith(b"}"), end
        assert got == RECORDS[: len(got)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1}\n{"a": ', "record 2"),
        (b'{"a": 1}\n17', "record 2"),
        (b'[{"a": 1}, "text"]', "record 2"),
        (b'[{"a": 1}', "no end"),
        (b'[{"a": 1}] {"a": 2}', "after its end"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "record 1"),
        (b"  \n", "found none"),
        (b"PK\x03\x04 broken", "damaged"),
        (gzip.compress(b'{"a": 1}' * 999, mtime=0)[:-9], "damaged"),
    ],
)
def test_defects_are_named(tmp_path, data, said):
    path = tmp_path / "data.json"
    path.write_bytes(data)
    with pytest.raises(UserError, match=said) as caught:
        read_json_records(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_path_that_is_no_file_is_named(tmp_path, name):
    with pytest.raises(UserError, match="cannot be read"):
        list(lines(tmp_path / name))


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"))))
def test_lines_are_read_as_they_were_written(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("lines") / "text.txt"
    ends = ["\n", "\r\n"]
    content = "".join(text + ends[place % 2] for place, text in enumerate(texts))
    path.write_bytes(gzip.compress(content.encode()))
    expected = [texts[0].removeprefix("\ufeff"), *texts[1:]] if texts else []
    assert list(lines(path)) == expected


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_a_byte_that_is_not_utf8_is_counted(tmp_path, monkeypatch, mark, chunk):
    monkeypatch.setattr(files, "_CHUNK", chunk)
    start = mark + '{"a": "好'.encode()
    # The second is the beginning of a character, where the file goes on and where it ends.
    truncated = rf"ends at byte {len(start) + 2} within a character; the file is truncated"
    wrong = rf"byte {len(start) + 1} is not UTF-8"
    for bad, said in ((b"\xff", wrong), (b"\xe5\xa5a", wrong), (b"\xe5\xa5", truncated)):
        path = packed(tmp_path, start + bad, "")
        with pytest.raises(UserError, match=said):
            read_json_records(path)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("好\n".encode() + b"ab\xff\n")
    read = lines(path)
    assert next(read) == "好"
    with pytest.raises(UserError, match=r"line 2 is not UTF-8 \(byte 3.*iconv -f GB18030 -t UTF-8"):
        next(read)


@pytest.mark.parametrize("name", ["table.xlsx", "renamed.csv"])
def test_a_workbook_is_no_table_of_text(tmp_path, name):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")
    with pytest.raises(UserError, match=f"{name}: a document of Excel or Word.*save it as CSV UTF-8"):
        next(lines(path))


def test_published_files(data_folder):
    counts = {
        "math23k/Math_23K.zip": 23162,
        "math23k/math23k_test.json.gz": 1000,
        "ape210k/valid.ape.json.gz": 5000,
    }
    for name, count in counts.items():
        assert len(read_json_records(data_folder / "math" / name)) == count
