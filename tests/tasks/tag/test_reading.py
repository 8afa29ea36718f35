"""Files of every form that is read, and what is said of those that are broken."""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.tasks.tag.data import open_tagged, texts_to_judge
from hanformer.tasks.tag.reading import Reading, Source
from hanformer.tasks.tag.spans import TaggedText, TextSpan

WORDS, ENTITIES = Reading("segmentation"), Reading("entities")


def read(reading: Reading, path: Path, content: str | bytes) -> list[TaggedText]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return reading.texts(Source(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "天地  玄 黄\n\n宇宙　洪荒  \n"),
        ("a.utf8", "\ufeff天地 玄\t黄\r\n宇宙\u3000洪荒\r\n"),
        (
            "a.txt",
            "19980101-01-001-001/m  天地/n  [玄/a  黄/a]nz  \n19980101-01-001-002/m  宇宙{yu3}/n 洪荒{ hong2 }/n\n",
        ),
        ("a.txt", "天\tB\n地\tE\n玄\tS\n黄\tS\n\n宇 B\n宙 E\n洪 B\n荒 E\n"),
        ("a.txt", "天 B-x\n地 I-x\n玄 B-y\n黄 B-x\n\n宇 B-x\n宙 I-x\n洪 B-x\n荒 I-x"),
        ("a.jsonl", '{"words": ["天地", "玄", "黄"]}\n{"words": ["宇宙", "洪荒"]}\n'),
    ],
)
def test_words_of_every_form(tmp_path: Path, name: str, content: str) -> None:
    found = read(WORDS, tmp_path / name, content)
    assert [text.words for text in found] == [["天地", "玄", "黄"], ["宇宙", "洪荒"]]
    assert all(str(tmp_path / name) in text.place for text in found)


def test_signs_of_the_people_daily_form_can_be_words(tmp_path: Path) -> None:
    found = read(WORDS, tmp_path / "a", "19980101-01-001-001/m  [/w  一/m  ]/w  和/c  //w  {/w\n")
    assert found[0].words == ["[", "一", "]", "和", "/", "{"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "小\tB-PER\n明\tI-PER\n去\tO\n北\tB-LOC\n京\tI-LOC\n"),
        ("a.txt", "-DOCSTART- O\n\n小 B-PER\r\n明 E-PER\r\n去 O\r\n北 B-LOC\r\n京 E-LOC\r\n\r\n"),
        ("a.conll", "小明 NR S-PER\n去 VV O\n北京 NS S-LOC\n"),
        ("a.jsonl", {"text": "小明去北京", "entities": [[3, 5, "LOC"], [0, 2, "PER"]]}),
        ("a.json", [{"text": "小明去北京", "spans": [{"start": 0, "end": 2, "label": "PER", "text": "小明"},
                                             {"start": 3, "end": 5, "type": "LOC"}]}]),
        ("a.json", {"text": "小明去北京", "label": {"PER": {"小明": [[0, 1]]}, "LOC": {"北京": [[3, 4]]}}}),
    ],
)  # fmt: skip
def test_entities_of_every_form(tmp_path: Path, name: str, content: object) -> None:
    said = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    found = read(ENTITIES, tmp_path / name, said)
    assert [(text.text, text.spans) for text in found] == [
        ("小明去北京", (TextSpan("PER", 0, 2), TextSpan("LOC", 3, 5)))
    ]


def test_words_of_columns_may_be_joined_by_blanks(tmp_path: Path) -> None:
    joined = Reading("entities", join="space")
    found = read(joined, tmp_path / "a", "Ann B-PER\nLee I-PER\nin O\nNew B-LOC\nYork I-LOC\n")
    assert found[0].text == "Ann Lee in New York"
    assert found[0].spans == (TextSpan("PER", 0, 7), TextSpan("LOC", 11, 19))


@pytest.mark.parametrize(
    ("reading", "name", "content", "said"),
    [
        (WORDS, "a.txt", "天地玄黄\n宇宙\n", "no line holds two words"),
        (WORDS, "a.txt", "\n", "no line holds two words"),
        (WORDS, "a.txt", "天地 玄\n".encode("gbk"), "line 1 is not UTF-8"),
        (WORDS, "a.txt", "天 B\n地 O\n", "line 1: expected every token to be part of a word"),
        (WORDS, "a.txt", "小 B-PER\n明 O\n", "choose --scheme entities"),
        (WORDS, "a.txt", "19980101-01-001-001/m  天地/n\n19980101-01-001-002/m  玄", "line 2: expected word/tag"),
        (WORDS, "a.json", '{"words": ["天地", "玄 黄"]}', "record 1: expected words"),
        (WORDS, "a.json", '{"text": "天地"}', "record 1: expected words"),
        (ENTITIES, "a.txt", "小 B-PER\n明\n", "line 2: expected a token and its tag"),
        (ENTITIES, "a.txt", "小 B-PER\n明 X-PER\n", "line 2: expected a tag such as O"),
        (ENTITIES, "a.txt", "小 B\n明 I\n", "line 1: expected tags with a type"),
        (ENTITIES, "a.txt", "\n\n", "holds no texts"),
        (ENTITIES, "a.json", '{"text": "小明"}', "record 1: expected text and entities, got text"),
        (ENTITIES, "a.json", '{"text": "小明", "entities": 3}', "record 1: expected a list"),
        (ENTITIES, "a.json", '{"text": "小明", "entities": [3]}', "record 1: expected an entity with start"),
        (ENTITIES, "a.json", '{"text": "小明", "entities": [[0, 3, "PER"]]}', "within 2 characters"),
        (ENTITIES, "a.json", '{"text": "小明", "entities": [[1, 1, "PER"]]}', "within 2 characters"),
        (ENTITIES, "a.json", '{"text": "小明", "entities": [[0, 1.0, "PER"]]}', "within 2 characters"),
        (ENTITIES, "a.json", '{"text": "小明", "entities": [[0, true, "PER"]]}', "within 2 characters"),
        (ENTITIES, "a.json", '{"text": "小明", "entities": [[0, 1, ""]]}', "record 1: expected an entity of a type"),
        (ENTITIES, "a.json", '{"text": "小", "spans": [{"start": 0, "end": 1, "type": "A", "text": "明"}]}', "'明'"),
        (ENTITIES, "a.json", '{"text": "小明", "label": {"A": [1]}}', "type A by their text"),
        (ENTITIES, "a.json", '{"text": "小明", "label": {"A": {"小": [0]}}}', r"expected \[first, last\]"),
    ],
)  # fmt: skip
def test_what_is_broken_is_named(
    tmp_path: Path, reading: Reading, name: str, content: str | bytes, said: str
) -> None:
    with pytest.raises(UserError, match=said) as raised:
        read(reading, tmp_path / name, content)
    assert str(tmp_path / name) in str(raised.value)


def test_a_form_can_be_chosen_and_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("我 S\n你 们\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 2: expected a tag"):
        WORDS.texts(Source(path))
    assert [t.words for t in Reading("segmentation", "words").texts(Source(path))] == [
        ["我", "S"],
        ["你", "们"],
    ]
    with pytest.raises(UserError, match="entities are read from json, columns"):
        Reading("entities", "words").texts(Source(path))


def test_a_zip_is_read_by_the_names_of_its_members(tmp_path: Path) -> None:
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("set/train.txt", "小 B-PER\n明 I-PER\n\n" * 3)
        archive.writestr("set/dev.txt", "大 B-PER\n卫 I-PER\n\n" * 2)
        archive.writestr("set/readme.md", "nothing")
    data = open_tagged(path, ENTITIES, valid=10)
    assert [text.text for text in (*data.train, *data.valid)] == ["小明"] * 3 + ["大卫"] * 2
    assert data.valid[1].place == f"{path}:dev.txt: line 4"
    source, texts = texts_to_judge(path, ENTITIES)
    assert source == f"{path}:dev.txt" and len(texts) == 2
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("all.txt", "小 B-PER\n\n" * 5)
    assert len(open_tagged(tmp_path / "one.zip", ENTITIES, valid=2).train) == 3


def test_records_of_a_zip_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.json", '{"text": "小明", "entities": [[0, 2, "PER"]]}\n' * 3)
        archive.writestr("dev.json", '{"text": "大卫", "entities": [[0, 2, "PER"]]}\n')
        archive.writestr("test.json", '{"text": "小红", "entities": [[0, 2, "PER"]]}\n{"text": "小"}\n')
    for reading in (ENTITIES, Reading("entities", "json")):
        data = open_tagged(path, reading, valid=10)
        assert [text.text for text in (*data.train, *data.valid)] == ["小明"] * 3 + ["大卫"]
        with pytest.raises(UserError, match=f"{path}:test.json: record 2"):
            texts_to_judge(path, reading)


def test_texts_are_split_by_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("".join(f"天地 玄{n}\n" for n in range(40)), encoding="utf-8")
    data = open_tagged(path, WORDS, valid=10, seed=3)
    assert len(data.train) == 30 and len(data.valid) == 10
    assert {text.text for text in (*data.train, *data.valid)} == {f"天地玄{n}" for n in range(40)}
    assert open_tagged(path, WORDS, valid=10, seed=3) == data != open_tagged(path, WORDS, valid=10, seed=4)
    assert len(open_tagged(path, WORDS, valid=10, limit=7).train) == 7
    with pytest.raises(UserError, match="40 texts, 40 are held out"):
        open_tagged(path, WORDS, valid=40)
    (tmp_path / "train.txt").rename(tmp_path / "test.txt")
    with pytest.raises(UserError, match="no training file"):
        open_tagged(tmp_path, WORDS, valid=1)


def test_types_must_be_there_to_be_learned(tmp_path: Path) -> None:
    train, valid = tmp_path / "train.txt", tmp_path / "dev.txt"
    train.write_text("小 B-PER\n\n天 O\n", encoding="utf-8")
    valid.write_text("天 O\n\n北 B-LOC\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"dev.txt: line 3: the type 'LOC' stands in no training text \(there: PER\)"
    ):
        open_tagged(tmp_path, ENTITIES, valid=5)
    train.write_text("小 O\n", encoding="utf-8")
    with pytest.raises(UserError, match="no training text has an entity"):
        open_tagged(train, ENTITIES, valid=5, valid_file=valid)


@pytest.mark.skipif("HANFORMER_DATA" not in os.environ, reason="HANFORMER_DATA names no folder")
def test_published_sets_are_read_whole() -> None:
    folder = Path(os.environ["HANFORMER_DATA"])
    counts = {
        "sxu/test.txt.gz": (3654, 113_527),
        "sighan2005/gold/cityu_test_gold.utf8.gz": (1492, 40_936),
        "people_daily_199801/valid.txt.gz": (1903, None),
    }
    for name, (texts, words) in counts.items():
        found = WORDS.texts(Source(folder / "segmentation" / name))
        assert len(found) == texts and (words is None or sum(len(text.words) for text in found) == words)
        assert not any(character.isspace() for text in found for character in text.text)
    data = open_tagged(folder / "ner/peopledaily.zip", ENTITIES, valid=10_000)
    kinds = Counter(span.kind for text in data.valid for span in text.spans)
    assert (len(data.train), len(data.valid)) == (50_658, 4_631)
    # More persons than there are B-PER: names that begin with I-PER count, as conlleval has it.
    assert kinds == {"LOC": 2877, "PER": 1984, "ORG": 1331}
