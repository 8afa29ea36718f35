"""Words, running text and the windows that training walks through."""

from __future__ import annotations

import zipfile
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.parsing.running_text import WindowSource, read_judged, read_parts, streams, window_lengths
from hanformer.parsing.words import END, UNKNOWN, Words

LINES = ("the cat sat on N mats", "the dog <unk> sat")


def test_words_are_found_as_they_stand_then_small_then_as_numbers() -> None:
    words = Words.learn(LINES)
    assert words.vocabulary.tokens[:2] == (UNKNOWN, END)
    ids = words.ids(["The", "cat", "3,000", "1990", "N", "Zebra", "<unk>", "7x"])
    assert words.vocabulary.tokens_of(ids) == ["the", "cat", "N", "N", "N", UNKNOWN, UNKNOWN, UNKNOWN]
    assert words.vocabulary.tokens_of(words.stream(["cat sat", ""])) == ["cat", "sat", END, END]
    assert len(Words.learn(LINES, size=4)) == 4 and len(Words.learn(LINES, minimum_count=2)) == 4


def test_chinese_text_is_cut_by_characters_or_by_a_dictionary() -> None:
    assert Words.learn(["苹果的颜色"], "characters").cut("苹果 红") == ["苹", "果", "红"]
    assert Words.learn(["苹果的颜色是什么"], "jieba").cut("苹果 的颜色是什么") == [
        "苹果",
        "的",
        "颜色",
        "是",
        "什么",
    ]


def test_words_are_kept_in_a_folder(tmp_path: Path) -> None:
    words = Words.learn(LINES, "characters")
    words.save(tmp_path)
    assert Words.load(tmp_path) == words
    (tmp_path / "words.json").write_text("{}")
    with pytest.raises(UserError, match="folder is incomplete"):
        Words.load(tmp_path)
    with pytest.raises(UserError, match="segment: expected one of spaces, jieba, characters"):
        Words.learn(LINES, "words")
    for choices in ({"minimum_count": 99}, {"size": 2}):
        with pytest.raises(UserError, match="found none; lower minimum_count, raise model.vocabulary_size"):
            Words.learn(LINES, **choices)


def test_parts_of_a_folder_a_zip_and_a_file(tmp_path: Path) -> None:
    named = {"ptb.train.txt": "a\n\nb\n", "ptb.valid.txt": "c\n", "ptb.test.txt": "d\n"}
    folder = tmp_path / "text"
    folder.mkdir()
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        for name, text in named.items():
            (folder / name).write_text(text, encoding="utf-8")
            archive.writestr(f"ptb/{name}", text)
    parts = read_parts(folder)
    assert (parts.train, parts.valid, parts.test) == (("a", "b"), ("c",), ("d",))
    assert read_parts(tmp_path / "text.zip") == parts
    single = tmp_path / "novel.txt"
    single.write_text("\n".join(f"line {number}" for number in range(41)), encoding="utf-8")
    assert [len(read_parts(single).train), len(read_parts(single).valid)] == [38, 3]
    single.rename(tmp_path / "train.txt")
    assert [len(read_parts(tmp_path / "train.txt").train), len(read_parts(tmp_path / "train.txt").valid)] == [
        38,
        3,
    ]
    (folder / "ptb.valid.txt").unlink()
    with pytest.raises(UserError, match="expected text to train on and to choose by"):
        read_parts(folder)


def test_text_to_judge_by(tmp_path: Path) -> None:
    """One file is judged whole, whatever its name; where it was trained on, by what was held out of it."""
    for part in ("valid", "test"):
        (tmp_path / f"{part}.txt").write_text(f"a\n{part}\n\n", encoding="utf-8")
    assert read_judged(tmp_path, False) == {"valid": ["a", "valid"], "test": ["a", "test"]}
    assert read_judged(tmp_path / "test.txt", False) == {"text": ["a", "test"]}
    assert read_judged(tmp_path / "test.txt", True) == {"valid": ["test"]}


def test_the_penn_treebank_text(data_folder: Path) -> None:
    parts = read_parts(data_folder / "lm_text" / "ptb" / "ptb.zip")
    assert [len(lines) for lines in (parts.train, parts.valid, parts.test)] == [42_068, 3_370, 3_761]
    assert sum(len(line.split()) for line in parts.train) == 887_521
    assert len(Words.learn(parts.train)) == 10_000


def test_streams_go_down_and_what_is_left_over_goes() -> None:
    assert streams(list(range(11)), 3).tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    with pytest.raises(UserError, match="at least 6 words for 3 streams, got 5"):
        streams(list(range(5)), 3)


@given(st.integers(2, 300), st.integers(1, 80), st.one_of(st.none(), st.integers(0, 5)), st.integers(0, 3))
@settings(deadline=None, derandomize=True)
def test_windows_cover_every_word_once_and_in_order(
    steps: int, base: int, seed: int | None, epoch: int
) -> None:
    text = torch.arange(steps * 2).view(2, steps).T
    source = WindowSource(text, base, seed)
    windows, again = list(source.batches(epoch)), source.batches(epoch)
    assert torch.equal(torch.cat([window.inputs for window in windows]), text[:-1])
    assert torch.equal(torch.cat([window.targets for window in windows]), text[1:])
    assert [window.first for window in windows] == [True, *[False] * (len(windows) - 1)]
    assert len(again) == len(windows) and torch.equal(again[len(again) - 1].inputs, windows[-1].inputs)


def test_lengths_are_drawn_as_awd_lstm_draws_them() -> None:
    lengths = window_lengths(700_000, 70, Random(0))[:-1]
    short = [length for length in lengths if length < 52]
    assert min(lengths) >= 5 and 0.03 < len(short) / len(lengths) < 0.07
    longer = [length for length in lengths if length >= 52]
    assert sum(longer) / len(longer) == pytest.approx(69.5, abs=0.5)
    assert window_lengths(150, 70, None) == [70, 70, 10] and window_lengths(0, 70, None) == []
    one, other = (WindowSource(torch.zeros(500, 1), 30, 7).batches(epoch).starts for epoch in (0, 1))
    assert one != other
    with pytest.raises(UserError, match="window: expected at least 1 step"):
        WindowSource(torch.zeros(5, 1), 0, None)


def test_chinese_cut_at_spaces_alone_is_told(recwarn: pytest.WarningsRecorder) -> None:
    lines = ["学而时习之不亦说乎", "有朋自远方来，不亦乐乎"]
    with pytest.warns(UserWarning, match=r"10 characters.*--set segment=characters"):
        Words.learn(lines)
    Words.learn(["学 而 时习 之", "不 亦 说 乎"])
    Words.learn(lines, "characters")
    Words.learn([*LINES, lines[0]])
    assert not recwarn.list
