"""Words as tokens: the cutter against its definition, the two segmenters, the vocabulary."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.data.files import lines, read_json_records
from hanformer.errors import UserError
from hanformer.text import wobert, word_segmentation
from hanformer.text.conventions import BERT4KERAS, TRANSFORMERS
from hanformer.text.load import load_tokenizer
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.word_segmentation import segmenter
from hanformer.text.wordpiece import WordPieceTokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = [*SPECIALS, *"今天气很好，。ab", "##b", "今天", "天气", "ab"]


class Longest:
    """The longest word of a list, from the left."""

    name = "longest"
    known = ("今天天", "今天", "天气", "ab", "好，")

    def cut(self, text: str) -> Iterator[str]:
        while text:
            word = next((word for word in self.known if text.startswith(word)), text[0])
            yield word
            text = text[len(word) :]


def tokenizer(convention=TRANSFORMERS, lowercase: bool = True) -> WordPieceTokenizer:
    return WordPieceTokenizer(Vocabulary(TOKENS), lowercase, convention=convention, segmenter=Longest())


def test_a_word_of_the_vocabulary_is_a_token_and_another_is_cut_as_any_text():
    found = tokenizer().encode("今天天气好，ABb[SEP]今天", special_tokens=False)
    assert found.tokens == ["今", "天", "天", "气", "好", "，", "ab", "b", "[SEP]", "今天"]
    assert found.offsets == [*((place, place + 1) for place in range(6)), (6, 8), (8, 9), (9, 14), (14, 16)]


def test_offsets_are_exact_where_normalising_changes_the_length():
    found = tokenizer().encode("\x00Ab\u0301é天\u200b气", special_tokens=False)
    assert list(zip(found.tokens, found.offsets, strict=True)) == [
        ("ab", (1, 3)),
        ("[UNK]", (4, 5)),
        ("天气", (5, 8)),
    ]


texts = st.lists(
    st.sampled_from([*TOKENS[5:], "A", "é", "Σ", "\u200d", "豈", "龘", " ", "\u3000", "[MASK]", "İ"]),
    max_size=20,
).map("".join)


@given(text=texts)
@pytest.mark.parametrize("convention", [TRANSFORMERS, BERT4KERAS])
@pytest.mark.parametrize("lowercase", [True, False])
def test_fuzzed_text_is_cut_as_its_segments_one_by_one(convention, lowercase, text):
    ours = tokenizer(convention, lowercase)
    plain = WordPieceTokenizer(Vocabulary(TOKENS), lowercase, convention=convention)
    if "[MASK]" in text:
        text = text.replace("[MASK]", "")
    prepared = convention.prepare(text, ours.rules)
    normal = "".join(character for character, _ in convention.normalise(prepared, ours.rules))
    expected: list[str] = []
    for word in Longest().cut(normal):
        known = word in TOKENS and len(word) > 1
        expected += [word] if known else plain.encode(word, special_tokens=False).tokens
    found = ours.encode(text, special_tokens=False)
    assert found.tokens == expected
    assert [start for start, _ in found.offsets] == sorted(start for start, _ in found.offsets)
    for token, (start, end) in zip(found.tokens, found.offsets, strict=True):
        if token != "[UNK]" and lowercase and token.isascii():
            assert token.removeprefix("##") in text[start:end].replace("\u200d", "").lower().replace("é", "e")


@given(text=st.text(st.sampled_from("今天气很好，。")))
def test_decoding_gives_the_text_back_in_fewer_tokens(text):
    ours, plain = tokenizer(), WordPieceTokenizer(Vocabulary(TOKENS))
    found = ours.encode(text, special_tokens=False)
    assert ours.decode(found.ids) == text
    assert len(found) <= len(plain.encode(text, special_tokens=False))


def test_words_of_a_vocabulary_are_counted_and_added_with_their_pieces():
    counts = wobert.count_words(["今天天气好", "今天很好", "天气 ab 龘"], Longest())
    assert counts == Counter({"今天天": 1, "气": 1, "好": 2, "今天": 1, "很": 1, "天气": 1, "龘": 1})
    base = Vocabulary([*SPECIALS, "##好", *"今天气很好ab", "很好"])
    change = wobert.word_vocabulary(base, counts, 2)
    assert change.vocabulary.tokens == (*SPECIALS, *"今天气很好ab", "今天", "今天天")
    assert change.keep_tokens == (0, 1, 2, 3, 4, *range(6, 13))
    assert change.compound_tokens == ((5, 6), (5, 6, 6))
    assert wobert.word_vocabulary(base, counts, 9).vocabulary.tokens[-1] == "天气"
    with pytest.raises(UserError, match="words is 0"):
        wobert.word_vocabulary(base, counts, 0)


def test_the_published_words_are_means_of_pieces_of_the_published_vocabulary(data_folder):
    base = Vocabulary.from_file(data_folder / "vocab" / "bert_zh_vocab_21128.txt")
    published = Vocabulary.from_file(data_folder / "vocab" / "wobert_base_vocab.txt")
    words = [word for word in published.tokens[13584:] if "##" not in word]
    counts = Counter({word: len(words) - place for place, word in enumerate(words)})
    change = wobert.word_vocabulary(base, counts)
    kept = set(change.vocabulary.tokens[: len(change.keep_tokens)])
    # The published list was made by a Python that took § for a symbol, from lines stripped of U+2028.
    assert set(published.tokens[:13584]) - kept == {"", "##", "##§"}
    assert kept - set(published.tokens[:13584]) == {"\u2028", "##\u2028", "##😂", "##😎"}
    added = change.vocabulary.tokens[len(change.keep_tokens) :]
    assert list(added) == [word for word in words if all(character in base for character in word)]
    assert len(added) > 19000
    for word, group in zip(added, change.compound_tokens, strict=True):
        assert "".join(change.vocabulary.tokens_of(group)) == word


def test_the_published_vocabulary_is_recognised(data_folder):
    pytest.importorskip("jieba")
    found = load_tokenizer(data_folder / "vocab" / "wobert_base_vocab.txt").encode("我们去北京大学看天气")
    assert found.tokens[1:-1] == ["我们", "去", "北京大学", "看", "天气"]


def test_a_segmenter_is_named_and_saved(tmp_path):
    Vocabulary(TOKENS).save(tmp_path / "vocab.txt")
    loaded = wobert.load(tmp_path, convention="bert4keras", cut_by="rjieba")
    text = "今天很好，天气Ab"
    assert loaded.encode(text).tokens[1:-1] == ["今天", "很", "好", "，", "天气", "ab"]
    loaded.save(tmp_path / "saved")
    again = WordPieceTokenizer.load(tmp_path / "saved")
    assert again.segmenter is not None and again.segmenter.name == "rjieba"
    assert again.encode(text) == loaded.encode(text) == pickle.loads(pickle.dumps(loaded)).encode(text)


def test_an_unknown_segmenter_and_one_that_is_missing_are_named(monkeypatch):
    with pytest.raises(UserError, match="auto, rjieba, jieba, got 'pkuseg'"):
        segmenter("pkuseg")
    monkeypatch.setattr(word_segmentation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"hanformer\[text\]"):
        segmenter()


def both(text: str) -> tuple[Iterable[str], Iterable[str]]:
    return list(segmenter("rjieba").cut(text)), list(segmenter("jieba").cut(text))


@pytest.mark.parametrize(
    "text", ["", " ", "\r\n\t x", "c++ 3.14% AT&T a-b b站", "𠮷㐀龦豈々〇", "我来到北京清华大学"]
)
def test_both_segmenters_give_the_same_words(text):
    rust, python = both(text)
    assert rust == python and "".join(rust) == text


def test_both_segmenters_agree_on_real_texts(data_folder):
    problems = read_json_records(data_folder / "math" / "ape210k" / "valid.ape.json.gz")[:300]
    chats = islice(lines(data_folder / "chitchat" / "lccc" / "LCCC-base_test.json.gz"), 100)
    for text in [*(str(problem["original_text"]) for problem in problems), *chats]:
        rust, python = both(text.lower())
        assert rust == python, text
