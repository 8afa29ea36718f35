"""Text to rows: files become passages, passages sentences, sentences rows that hold one document each."""

from __future__ import annotations

import gzip
import zipfile
from itertools import chain, groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.tasks.pretrain.corpus import Passage, file_to_judge, open_corpus, passages
from hanformer.tasks.pretrain.recipe import TextOptions
from hanformer.tasks.pretrain.rows import rows, sentences
from hanformer.tasks.pretrain.words import reader
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer

TEXTS = st.lists(st.tuples(st.text("天地人。！？”", min_size=1, max_size=30), st.booleans()), max_size=12)


def read(text: str) -> tuple[list[int], list[bool]]:
    """A token a character; 人 goes on with the word before it."""
    return [ord(sign) for sign in text], [sign != "人" for sign in text]


def documents(found: list[Passage]) -> list[str]:
    numbered, number = [], 0
    for text, begins in found:
        number += begins
        numbered.append((number, text))
    return ["".join(text for _, text in own) for _, own in groupby(numbered, key=lambda each: each[0])]


@given(TEXTS, st.integers(2, 12))
def test_rows_are_the_documents_cut_to_length(texts: list[tuple[str, bool]], room: int) -> None:
    found = [Passage(*each) for each in texts]
    made = list(rows(found, read, room))
    assert all(0 < len(ids) <= room and len(ids) == len(begins) for ids, begins in made)
    written = iter("".join(map(chr, ids)) for ids, _ in made)
    for document in documents(found):
        text = ""
        while len(text) < len(document):
            text += next(written)
        assert text == document
    assert next(written, None) is None


@given(TEXTS)
def test_sentences_lose_nothing_and_begin_where_documents_do(texts: list[tuple[str, bool]]) -> None:
    found = [Passage(*each) for each in texts]
    cut = list(sentences(found))
    assert documents(cut) == documents(found)
    assert sum(begins for _, begins in cut) == sum(begins for _, begins in found)


def test_a_row_takes_as_many_whole_sentences_as_fit() -> None:
    found = [Passage("天地。天地天。地。", True), Passage("天。", False), Passage("地。", True)]
    written = ["".join(map(chr, ids)) for ids, _ in rows(found, read, 7)]
    assert written == ["天地。天地天。", "地。天。", "地。"]


def test_closing_quotes_stay_with_their_sentence() -> None:
    cut = [text for text, _ in sentences([Passage("子曰：“善哉！”吾往。乐乎？？乎", True)])]
    assert cut == ["子曰：“善哉！”", "吾往。", "乐乎？？", "乎"]


def test_a_long_sentence_is_cut_before_a_word() -> None:
    made = list(rows([Passage("天地天人人人天", True)], read, 4))
    assert ["".join(map(chr, ids)) for ids, _ in made] == ["天地", "天人人人", "天"]
    (first, *_) = list(rows([Passage("天人人人人人", True)], read, 4))
    assert len(first[0]) == 4  # a word longer than a row


def test_words_of_a_segmenter() -> None:
    words = ["今天", "天气", "很", "不错"]
    vocabulary = Vocabulary(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("".join(words))), "##天"]
    )
    tokenizer = WordPieceTokenizer(vocabulary)
    _, begins = reader(tokenizer, "jieba")(" ".join(words))
    starts = list(chain.from_iterable([True, *[False] * (len(word) - 1)] for word in words))
    assert begins == starts
    assert reader(tokenizer, "none")("今天天气")[1] == [True] * 4
    with pytest.raises(UserError, match="segmenter"):
        reader(tokenizer, "stanza")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_lines_and_columns(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.txt", "一\n二\n\n  \n三\n")
    both = [Passage("一", True), Passage("二", False), Passage("三", True)]
    assert list(passages([lines], TextOptions())) == both
    assert all(begins for _, begins in passages([lines], TextOptions(documents="line")))
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    assert list(passages([packed, lines], TextOptions())) == both + both
    table = write(tmp_path / "t.tsv", "甲\t一\t1\n甲\t二\t2\n乙\t三\t3\n")
    found = list(passages([table], TextOptions(("2", "3"), "1")))
    assert found[:3] == both and found[3:] == [Passage("1", True), Passage("2", False), Passage("3", True)]
    assert all(begins for _, begins in passages([table], TextOptions(("2",))))
    records = write(tmp_path / "r.jsonl", '{"text": "一"}\n{"text": "二"}\n')
    assert [text for text, _ in passages([records], TextOptions(("text",)))] == ["一", "二"]


def test_folders(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "notes.md"):
        write(tmp_path / name, "天\n")
    assert [file.name for file in open_corpus(tmp_path).train] == ["a.txt", "b.txt"]
    write(tmp_path / "train.txt", "天\n")
    assert (open_corpus(tmp_path).train, open_corpus(tmp_path).valid) == ((tmp_path / "train.txt",), ())
    held = write(tmp_path / "valid.txt", "天\n")
    assert open_corpus(tmp_path).valid == (held,)
    assert open_corpus(tmp_path / "a.txt", held).valid == (held,)


def test_parts_of_a_zip(tmp_path: Path) -> None:
    """What a zip names for testing is not trained on."""
    packed = tmp_path / "ptb.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for part, text in (("train", "天\n"), ("valid", "地\n"), ("test", "人\n")):
            archive.writestr(f"ptb/ptb.{part}.txt", text)
        archive.writestr("ptb/README", "?")
    corpus = open_corpus(packed)
    assert [text for text, _ in passages(corpus.train, TextOptions())] == ["天"]
    assert [text for text, _ in passages(corpus.valid, TextOptions())] == ["地"]
    assert [text for text, _ in passages([file_to_judge(packed)], TextOptions())] == ["人"]
    with pytest.raises(UserError, match=r"none\.txt: there is no such file in .*ptb\.zip"):
        list(passages([packed / "none.txt"], TextOptions()))
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("b.txt", "天\n")
        archive.writestr("a.txt", "地\n")
    assert [text for text, _ in passages(open_corpus(packed).train, TextOptions())] == ["地", "天"]
    with pytest.raises(UserError, match="none of its 2 files is named test or valid"):
        file_to_judge(packed)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("only.csv", "text\n天\n")
    assert [text for text, _ in passages(open_corpus(packed).train, TextOptions(("text",)))] == ["天"]
    assert file_to_judge(packed) == packed
    with pytest.raises(UserError, match="no such file or folder"):
        file_to_judge(tmp_path / "absent")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    table = write(tmp_path / "t.tsv", "甲\t一\n甲\n")
    with pytest.raises(UserError, match=r"t\.tsv: row 2 has 1 columns"):
        list(passages([table], TextOptions(("2",))))
    with pytest.raises(UserError, match="no column 'text'"):
        list(passages([table], TextOptions(("text",))))
    numbers = write(tmp_path / "n.jsonl", '{"text": 3}\n')
    with pytest.raises(UserError, match="row 1: expected text in text, got 3"):
        list(passages([numbers], TextOptions(("text",))))
    foreign = tmp_path / "gbk.txt"
    foreign.write_bytes("天\n".encode() + "地".encode("gbk"))
    with pytest.raises(UserError, match=r"gbk\.txt: line 2 is not UTF-8"):
        list(passages([foreign], TextOptions()))
    with pytest.raises(UserError, match="no such file"):
        open_corpus(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no files of text"):
        open_corpus(tmp_path / "empty")
    with pytest.raises(UserError, match="text to choose by"):
        open_corpus(table, tmp_path / "absent")


def test_rows_of_real_text(data_folder: Path) -> None:
    files = open_corpus(data_folder / "translation" / "classical_modern").valid
    vocabulary = Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    made = rows(
        passages(files, TextOptions(("2", "3"), "1")), reader(WordPieceTokenizer(vocabulary), "none"), 126
    )
    lengths = [len(ids) for ids, _ in made]
    assert len(lengths) > 2000 and max(lengths) <= 126
    assert sum(lengths) / len(lengths) > 100  # joined sentences fill rows
