"""Many files of many forms become one file of text: all documents, none twice, whole or not at all."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.tasks.pretrain.corpus import Passage, passages
from hanformer.tasks.pretrain.gathering import Gathered, Source, gather, read_sources
from hanformer.tasks.pretrain.recipe import TextOptions

LIST = """
[novels]
files = ["novels/*.txt"]
text.documents = "file"

[pairs]
files = ["pairs.tsv"]
text.columns = ["2", "3"]
text.group = "1"

[poems]
files = ["poems.json"]
text.columns = ["lines"]

[reviews]
files = ["reviews.zip"]
text.columns = ["review"]

[talk]
files = ["talk.jsonl"]
dialogues = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of each form."""
    (tmp_path / "novels").mkdir()
    (tmp_path / "novels" / "a.txt").write_text("第一回\n\n话说天下\n", encoding="utf-8")
    (tmp_path / "novels" / "b.txt").write_text("\n大势\n", encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("甲\t学而\t学习\n甲\t时习\t温习\n乙\t说乎\t高兴\n", encoding="utf-8")
    poems = [{"lines": ["床前明月光", " ", "疑是地上霜"]}, {"lines": ["大势"]}, {"lines": "白日"}]
    (tmp_path / "poems.json").write_text(json.dumps(poems, ensure_ascii=False), encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "reviews.zip", "w") as archive:
        archive.writestr("reviews.csv", 'label,review\n1,"好，\n很好"\n0,差\n1,差\n')
    (tmp_path / "talk.jsonl").write_text('["你好", "你 也 好"]\n', encoding="utf-8")
    (tmp_path / "list.toml").write_text(LIST, encoding="utf-8")
    return tmp_path


EXPECTED = [
    "第一回\n话说天下",
    "大势",
    "学而\n时习",
    "说乎",
    "学习\n温习",
    "高兴",
    "床前明月光\n疑是地上霜",
    "白日",
    "好，\n很好",
    "差",
    "你好\n你也好",
]


@pytest.mark.parametrize("name", ["all.txt", "all.txt.gz"])
def test_every_document_once(folder: Path, name: str) -> None:
    out = folder / "made" / name
    told = list(gather(read_sources(folder / "list.toml"), folder, out))
    written = out.read_bytes()
    text = (gzip.decompress(written) if name.endswith("gz") else written).decode()
    assert text == "".join(f"{document}\n\n" for document in EXPECTED)
    assert told[0] == Gathered("novels", 2, len("第一回\n话说天下大势"), 0)
    assert [each.repeated for each in told] == [0, 0, 1, 1, 0]
    found = list(passages([out], TextOptions()))
    assert sum(passage.begins for passage in found) == len(EXPECTED) and found[0] == Passage("第一回", True)
    list(gather(read_sources(folder / "list.toml"), folder, out))
    assert out.read_bytes() == written


def test_what_stops_in_the_middle_leaves_the_old_file(folder: Path) -> None:
    out = folder / "all.txt"
    out.write_text("old", encoding="utf-8")
    for row in gather(read_sources(folder / "list.toml"), folder, out):
        assert row.name == "novels"
        break
    assert out.read_text(encoding="utf-8") == "old"
    (folder / "pairs.tsv").write_text("甲\t学而\n", encoding="utf-8")
    with pytest.raises(UserError, match="row 1 has 2 columns"):
        list(gather(read_sources(folder / "list.toml"), folder, out))
    assert out.read_text(encoding="utf-8") == "old" and not list(folder.glob("*all*.tmp"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no sources"),
        ("[a", "cannot be read as TOML"),
        ("a = 1", r"\[a\]: expected a table with files"),
        ("[a]\nfiles = []", "expected a table with files"),
        ("[a]\nfiles = 3", r"files: expected"),
        ("[a]\nfiles = ['x']\ncolums = ['1']", "colums: unknown name"),
        ("[a]\nfiles = ['x']\ntext.documents = 'page'", "text.documents: expected one of blank, line, file"),
        ("[a]\nfiles = ['x']\ndialogues = true\ntext.columns = ['1']", "dialogues have no columns"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "list.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_sources(tmp_path / "list.toml")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("none/*.txt", "no such file"),
        ("../x", "below the folder"),
        ("/x", "below the folder"),
        ("", "below the folder"),
        ("**x", "is no pattern|no such file"),
    ],
)
def test_patterns_that_meet_nothing(folder: Path, pattern: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        next(gather([Source("a", (pattern,))], folder, folder / "out.txt"))


def test_what_must_not_be_written_over(folder: Path) -> None:
    source = [Source("a", ("novels/a.txt",))]
    with pytest.raises(UserError, match="is one of the files to gather"):
        list(gather(source, folder, folder / "novels" / "a.txt"))
    with pytest.raises(UserError, match="novels: is a folder; expected the name of a file"):
        list(gather(source, folder, folder / "novels"))
    assert sorted(file.name for file in folder.iterdir() if file.name.startswith((".", "n"))) == ["novels"]
    assert (folder / "novels" / "a.txt").read_text(encoding="utf-8").startswith("第一回")


def test_a_source_without_text(folder: Path) -> None:
    (folder / "blank.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(UserError, match=r"\[a\]: .*blank.txt: no text"):
        list(gather([Source("a", ("blank.txt",))], folder, folder / "out.txt"))
    assert not (folder / "out.txt").exists()


def test_tables_of_a_zip_have_a_header_each(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.csv", "text\n一\n")
        archive.writestr("two.csv", "label,text\n1,二\n")
    list(gather([Source("a", ("a.zip",), text=TextOptions(("text",)))], tmp_path, tmp_path / "out.txt"))
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "一\n\n二\n\n"


def test_lists_of_texts_in_columns(tmp_path: Path) -> None:
    (tmp_path / "poems.json").write_text('[{"lines": ["一", 2]}]', encoding="utf-8")
    with pytest.raises(UserError, match="record|row 1: expected text in lines, got 2"):
        list(passages([tmp_path / "poems.json"], TextOptions(columns=("lines",))))
