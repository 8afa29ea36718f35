"""Dialogues are read from every form that they are published in; what is wrong is named by its place."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.data.dialogues import joined, open_dialogues, open_test, read_dialogues
from hanformer.errors import UserError
from tests.chat.talks import TALKS

ROWS = [list(turns) for turns in TALKS]
LINES = "0 +++$+++ 甲 +++$+++ 怎么下载？\n1 +++$+++ 乙 +++$+++ 看这里\n"
ABOUT = "0 +++$+++ 甲 +++$+++ 乙 +++$+++ 2017 +++$+++ http +++$+++ [0, 1]\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_form_gives_the_same(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    spaced = [[" ".join(turn) for turn in row] for row in ROWS]
    forms = [
        written(tmp_path / "a.json", json.dumps(ROWS, indent=0)),
        written(tmp_path / "one_line.json", json.dumps(ROWS)),
        written(tmp_path / "spaced.json", json.dumps(spaced, ensure_ascii=False)),
        written(tmp_path / "a.jsonl", f"\ufeff{lines}\n\n"),
        written(tmp_path / "a.tsv", "\n".join("\t".join(row) for row in ROWS) + "\r\n"),
        written(tmp_path / "split.json", json.dumps({"train": ROWS, "dev": [], "test": []})),
    ]
    packed = tmp_path / "a.json.gz"
    packed.write_bytes(gzip.compress(forms[0].read_bytes()))
    for form in (*forms, packed):
        assert read_dialogues(form)["train"] == list(TALKS), form


def test_egret_as_a_zip_and_as_a_folder(tmp_path: Path) -> None:
    names = {"egret_wenda_lines.txt": LINES, "egret_wenda_conversations.txt": ABOUT}
    folder = tmp_path / "egret"
    folder.mkdir()
    packed = tmp_path / "egret.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in names.items():
            written(folder / name, text)
            archive.writestr(f"corpus/{name}", text)
            archive.writestr(f"corpus/raw/{name.replace('.txt', '_raw.txt')}", "something else")
    for path in (folder, packed):
        assert read_dialogues(path) == {"train": [("怎么下载？", "看这里")]}
        assert open_test(path) == [("怎么下载？", "看这里")]
    for broken, said in (
        (ABOUT.replace("[0, 1]", "[0, 7]"), "line 1: names the line 7"),
        (ABOUT.replace("[0, 1]", "[0, x]"), "line 1: expected a list of numbers"),
        ("0 +++$+++ 甲\n", "line 1: expected 6 columns"),
    ):
        written(folder / "egret_wenda_conversations.txt", broken)
        with pytest.raises(UserError, match=said):
            read_dialogues(folder)


def test_splits_of_a_folder_and_of_a_file(tmp_path: Path) -> None:
    for split, rows in (("train", ROWS), ("valid", ROWS[:1]), ("test", ROWS[1:])):
        written(tmp_path / f"talk_{split}.json", json.dumps(rows))
    data = open_dialogues(tmp_path, valid=10)
    assert (list(data.train), list(data.valid)) == (list(TALKS), [TALKS[0]])
    assert open_test(tmp_path) == list(TALKS[1:])
    whole = written(tmp_path / "all.json", json.dumps({"train": ROWS, "valid": ROWS[:1], "test": ROWS[1:]}))
    data = open_dialogues(whole, valid=10)
    assert (list(data.train), list(data.valid)) == (list(TALKS), [TALKS[0]])
    assert open_test(whole) == list(TALKS[1:])


@pytest.mark.parametrize(("suffix", "kind"), [("jsonl", "json"), ("tsv", "tsv"), ("json", "list")])
def test_a_zip_keeps_its_parts_apart(tmp_path: Path, suffix: str, kind: str) -> None:
    def said(turns: list[str]) -> str:
        return {"json": json.dumps(turns), "tsv": "\t".join(turns), "list": json.dumps([turns])}[kind]

    path = tmp_path / f"talks.{suffix}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for split in ("train", "dev", "test"):
            archive.writestr(f"{split}.{suffix}", said([split, "好"]) + "\n")
    data = open_dialogues(path, valid=10)
    assert (list(data.train), list(data.valid)) == ([("train", "好")], [("dev", "好")])
    assert open_test(path) == [("test", "好")]


def test_held_out_by_the_seed(tmp_path: Path) -> None:
    rows = [[f"问{number}", f"答{number}"] for number in range(50)]
    path = written(tmp_path / "a.json", json.dumps(rows))
    data = open_dialogues(path, valid=10, seed=3)
    assert len(data.valid) == 10 and sorted([*data.train, *data.valid]) == sorted(map(tuple, rows))
    assert open_dialogues(path, valid=10, seed=3) == data != open_dialogues(path, valid=10, seed=4)
    assert len(open_dialogues(path, valid=10, limit=7).train) == 7
    other = open_dialogues(path, valid=10, valid_file=written(tmp_path / "b.tsv", "你好\t好呀\n"))
    assert len(other.train) == 50 and other.valid == [("你好", "好呀")]
    with pytest.raises(UserError, match="50 dialogues, 50 are held out"):
        open_dialogues(path, valid=50)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '[["好", ""]]', "train record 1, turn 2: expected a text that is not empty"),
        ("a.json", '[["好"], ["好", 3]]', "train record 2, turn 2"),
        ("a.json", '[["好"], "好"]', "train record 2: expected a list of utterances, got '好'"),
        ("a.json", '{"train": "好"}', "train: expected a list of dialogues"),
        ("a.json", '{"talks": []}', "named train, valid and test; got an object of talks"),
        ("a.json", '[["好", "坏"', "expected JSON, or turns between tabs"),
        ("a.json", "[]", "holds no dialogues"),
        ("a.json", "", "expected JSON"),
        ("a.json", "[" * 5000, "expected JSON"),
        ("a.jsonl", '["好", "坏"]\n["好"', "line 2 is no JSON"),
        ("a.tsv", "好\t\t坏\n", "line 1, turn 2"),
        ("a.tsv", "\n\n", "holds no dialogues"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = written(tmp_path / name, text)
    with pytest.raises(UserError, match=said) as refused:
        read_dialogues(path)
    assert str(path) in str(refused.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('["你好", "好"]'.encode("gb18030"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_dialogues(path)
    with pytest.raises(UserError, match="no such file"):
        open_dialogues(tmp_path / "nothing", valid=1)
    (tmp_path / "b").mkdir()
    written(tmp_path / "b" / "test.tsv", "好\t坏\n")
    with pytest.raises(UserError, match="no training file"):
        open_dialogues(tmp_path / "b", valid=1)


@given(st.text(st.characters(exclude_characters=" ", exclude_categories=["Cs"]), min_size=1))
def test_blanks_between_characters(text: str) -> None:
    assert joined(" ".join(text)) == text
    assert joined(f"ab {text}") == f"ab {text}"


def test_published_sets(data_folder: Path) -> None:
    lccc = data_folder / "chitchat" / "lccc"
    test = open_test(lccc)
    assert len(test) == 10_000 and test[0] == ("我饿了。", "去相机家里吃……", "相机今年木有回去T.T")
    data = open_dialogues(lccc / "LCCC-base_valid.json.gz", valid=1000)
    assert (len(data.train), len(data.valid)) == (19_000, 1000)
    toy = open_dialogues(data_folder / "chitchat" / "cdial_toy" / "toy_data.json.gz", valid=1000)
    assert (len(toy.train), len(toy.valid)) == (1000, 200)
    egret = read_dialogues(data_folder / "chitchat" / "egret_wenda" / "egret-wenda-corpus.zip")["train"]
    assert len(egret) == 2908 and egret[1] == ("如何删除子对象", "this.removeChild(this.view)")
