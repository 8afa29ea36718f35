"""WordPiece: equal to the tokenizers library in ids, tokens and offsets; files, pairs, truncation."""

from __future__ import annotations

import json
import pickle
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from hanformer.data.files import lines, read_json_records
from hanformer.errors import UserError
from hanformer.text.basic import BasicRules
from hanformer.text.conventions import TRANSFORMERS
from hanformer.text.cutting import GreedyPieces
from hanformer.text.protocols import Tokenizer, pair_lengths
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer, character_pieces
from tests.text import check_corpora

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# fmt: off
PIECES = [
    "un", "aff", "able", "##aff", "##able", "a", "b", "c", "e", "h", "i", "s", "x", "z", "1", "2",
    "3", "##1", "##2", "##.", ".", ",", "!", "[", "]", "(", ")", "é", "##é", "ᄒ", "##ᅡ", "##ᆫ", "σ",
    "i̇", "$", "Un", "E",
]
# fmt: on
CHINESE = list("今天气不错，。！？、：“”（）〈〉豈豈丽々〇㐀①—…·＋Ａａ")
TOKENS = tuple(dict.fromkeys([*SPECIALS, *PIECES, *CHINESE, *(f"##{c}" for c in "abceihsxzσ"), "##ss"]))
RULES = [(True, None), (False, None), (True, False), (False, True)]

words = st.sampled_from(
    [*SPECIALS, *CHINESE, *PIECES, "unaffable", "UnÉable", "[mask]", "각한", "e\u0301", "\ufb01"]
)
odd = st.sampled_from(
    [" ", "\u3000", "\x85", "\x1c", "\u200d", "\u0000", "\ufffd", "\ue000", "\u0344", "\U0002f800"]
)
# U+302E and U+302F are moved by NFD and not stripped; there alone the library's offsets point elsewhere.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\u302e\u302f")
texts = st.lists(st.one_of(words, odd, characters), max_size=30).map("".join)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(TOKENS)


def library(tokens: tuple[str, ...], lowercase: bool, accents: bool | None) -> BertWordPieceTokenizer:
    ids = {token: number for number, token in enumerate(tokens)}
    return BertWordPieceTokenizer(ids, lowercase=lowercase, strip_accents=accents)


PAIRS = [
    (
        WordPieceTokenizer(Vocabulary(TOKENS), lowercase, strip_accents=accents),
        library(TOKENS, lowercase, accents),
    )
    for lowercase, accents in RULES
]


# Every text by the greedy rule alone: no runs, no memory.
WHOLE = GreedyPieces(Vocabulary(TOKENS), BasicRules(), TRANSFORMERS, 100)


def assert_equal(ours: WordPieceTokenizer, theirs: BertWordPieceTokenizer, text: str) -> None:
    mine, other = ours.encode(text), theirs.encode(text)
    assert (mine.tokens, mine.ids, mine.offsets) == (other.tokens, other.ids, other.offsets), repr(text)


@settings(max_examples=200)
@given(text=texts)
def test_fuzzed_text_is_cut_as_the_library_cuts_it(text):
    for ours, theirs in PAIRS:
        assert_equal(ours, theirs, text)
        assert_equal(ours, theirs, text)  # once more, from what was remembered


@given(text=texts)
def test_a_run_of_text_is_cut_as_its_words_one_by_one(text):
    # The oracle of the fast path: no runs and no memory, only the long way.
    ours = PAIRS[0][0]
    slow = WHOLE.of_text(text)
    for token in SPECIALS:
        if token in text:
            return
    pieces = ours.pieces(text)
    assert (tuple(pieces.ids), tuple(pieces.offsets)) == slow


@given(first=texts, second=texts, maximum=st.integers(3, 40))
def test_pairs_are_truncated_as_the_library_truncates_them(first, second, maximum):
    ours, theirs = PAIRS[0]
    whole = theirs.encode(first, second)
    theirs.enable_truncation(maximum)
    try:
        other = theirs.encode(first, second)
    finally:
        theirs.no_truncation()
    mine = ours.encode_pair(first, second, maximum)
    assert (mine.ids, mine.segments, mine.offsets) == (other.ids, other.type_ids, other.offsets)
    assert mine.truncated == (len(whole) > maximum)


@given(text=texts, maximum=st.integers(2, 20))
def test_truncation_keeps_the_beginning_and_says_so(vocabulary, text, maximum):
    ours = PAIRS[0][0]
    whole, cut = ours.encode(text), ours.encode(text, maximum)
    assert len(cut) == min(len(whole), maximum)
    assert cut.truncated == (len(whole) > maximum) and not whole.truncated
    assert cut.ids[:-1] == whole.ids[: len(cut) - 1] and cut.ids[-1] == vocabulary.sep_id
    bare = ours.encode(text, maximum, special_tokens=False)
    assert bare.ids == whole.ids[1:-1][:maximum] and bare.truncated == (len(whole) - 2 > maximum)


@pytest.mark.parametrize(
    ("first", "second", "room"), [(9, 2, 6), (2, 9, 6), (9, 9, 7), (9, 8, 7), (0, 9, 3), (5, 5, 0)]
)
def test_pair_lengths_fill_the_room(first, second, room):
    kept = pair_lengths(first, second, room)
    assert sum(kept) == room and kept[0] <= first and kept[1] <= second


def test_a_length_without_room_for_the_special_tokens_is_refused():
    tokenizer = PAIRS[0][0]
    for refused in (lambda: tokenizer.encode("a", 1), lambda: tokenizer.encode_pair("a", "b", 2)):
        with pytest.raises(UserError, match="maximum_length"):
            refused()


def test_added_tokens_are_never_split_and_the_longest_wins(vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary.with_added(["[N1]", "[N1]]", "天气"]))
    encoding = tokenizer.encode("今[N1]]天气[N1][n1]", special_tokens=False)
    assert encoding.tokens == ["今", "[N1]]", "天气", "[N1]", "[", "[UNK]", "]"]
    assert encoding.offsets == [(0, 1), (1, 6), (6, 8), (8, 12), (12, 13), (13, 15), (15, 16)]


def test_special_tokens_in_text_can_be_read_as_text(vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary.with_added(["[N0]"]), read_specials=False)
    assert tokenizer.encode("[SEP][N0]", special_tokens=False).tokens == ["[", "[UNK]", "]", "[N0]"]


def test_a_word_is_bounded_in_characters(vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary)
    assert tokenizer.encode("a" * 100).tokens[1:-1] == ["a"] + ["##a"] * 99
    assert tokenizer.encode("a" * 101).tokens[1:-1] == ["[UNK]"]
    assert tokenizer.encode("a" * 101).offsets[1] == (0, 101)


def test_a_long_text_and_an_empty_one(vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary)
    encoding = tokenizer.encode("今天气" * 2000 + "a", special_tokens=False)
    assert encoding.offsets == [(place, place + 1) for place in range(6001)]
    assert (
        tokenizer.encode("").tokens == ["[CLS]", "[SEP]"]
        and len(tokenizer.encode("", special_tokens=False)) == 0
    )


def test_a_lone_surrogate_is_no_crash(vocabulary):
    assert WordPieceTokenizer(vocabulary).encode("今\udc80天").offsets[1:-1] == [(0, 1), (2, 3)]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("今天 天气不错 ， 21！", "今天天气不错，21！"),
        ("unaffable, a ( b ) x!", "unaffable, a(b) x!"),
        ("1.2 a 今 b c", "1.2 a今b c"),
        ("[N0]天[N1]", "[N0]天[N1]"),
    ],
)
def test_decoding_reads_well(vocabulary, text, read):
    tokenizer = WordPieceTokenizer(vocabulary.with_added(["[N0]", "[N1]"]))
    assert tokenizer.decode(tokenizer.encode(text).ids) == read


@given(text=st.text(st.sampled_from("今天气不错，。ab12")))
def test_decoded_text_is_cut_into_the_same_tokens(text):
    tokenizer = PAIRS[0][0]
    ids = tokenizer.encode(text).ids
    if tokenizer.vocabulary.unk_id not in ids:
        assert tokenizer.encode(tokenizer.decode(ids)).ids == ids


def test_decoding_can_keep_special_tokens_and_refuses_ids_out_of_range(vocabulary):
    tokenizer = WordPieceTokenizer(vocabulary)
    assert tokenizer.decode(tokenizer.encode("天").ids, skip_specials=False) == "[CLS]天[SEP]"
    with pytest.raises(UserError, match="out of range"):
        tokenizer.decode([len(TOKENS)])


@pytest.mark.parametrize(("lowercase", "accents"), RULES)
def test_saved_and_loaded_it_is_the_same(tmp_path, vocabulary, lowercase, accents):
    words = vocabulary.with_added(["[N0]"])
    saved: Tokenizer = WordPieceTokenizer(words, lowercase, strip_accents=accents, longest_word=50)
    saved.save(tmp_path / "new" / "folder")
    loaded = WordPieceTokenizer.load(tmp_path / "new" / "folder")
    assert loaded.vocabulary == words and loaded.longest_word == 50
    text = "UnÉable [N0]气[MASK]" + "a" * 60
    assert loaded.encode(text) == saved.encode(text)
    assert pickle.loads(pickle.dumps(loaded)).encode(text + "国") == saved.encode(text + "国")


def test_a_folder_of_others_is_read(tmp_path):
    (tmp_path / "vocab.txt").write_text("<unk>\n<s>\n</s>\nA\na\n[E1]\n", encoding="utf-8")
    written = {
        "do_lower_case": False,
        "unk_token": {"content": "<unk>"},
        "cls_token": "<s>",
        "sep_token": "</s>",
    }
    config = {**written, "pad_token": None, "additional_special_tokens": ["[E1]"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = WordPieceTokenizer.load(tmp_path)
    assert tokenizer.encode("A[E1] a x").tokens == ["<s>", "A", "[E1]", "a", "<unk>", "</s>"]
    assert tokenizer.vocabulary.specials == SpecialTokens(None, "<unk>", "<s>", "</s>", "[MASK]")


@pytest.mark.parametrize(
    ("content", "said"), [("[1]", "JSON object"), ("{", "JSON object"), ('{"unk_token": 3}', "3")]
)
def test_a_damaged_folder_is_named(tmp_path, content, said):
    with pytest.raises(UserError, match=r"vocab\.txt"):
        WordPieceTokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        WordPieceTokenizer.load(tmp_path)


def test_a_vocabulary_of_characters_leaves_nothing_unknown():
    sentences = ["鸡兔同笼，共有35个头。", "Train No. 12 到达 B 站？"]
    tokenizer = WordPieceTokenizer(Vocabulary.build(sentences, character_pieces))
    assert all("[UNK]" not in tokenizer.encode(sentence).tokens for sentence in sentences)


def corpus(folder: Path) -> list[str]:
    problems = read_json_records(folder / "math" / "ape210k" / "valid.ape.json.gz")[:600]
    chats = islice(lines(folder / "chitchat" / "lccc" / "LCCC-base_test.json.gz"), 300)
    return [*(str(problem["original_text"]) for problem in problems), *chats]


@pytest.mark.parametrize(
    ("name", "lowercase"),
    [
        ("bert_zh_vocab_21128.txt", True),
        ("bert_zh_vocab_21128.txt", False),
        ("bert_en_uncased_vocab_30522.txt", True),
    ],
)
def test_real_texts_are_cut_as_the_library_cuts_them(data_folder, name, lowercase):
    path = data_folder / "vocab" / name
    ours = WordPieceTokenizer(Vocabulary.from_file(path), lowercase)
    theirs = BertWordPieceTokenizer(str(path), lowercase=lowercase)
    for text in corpus(data_folder)[:: 1 if lowercase else 5]:
        assert_equal(ours, theirs, text)


@pytest.mark.parametrize("folder", ["sentiment/hotel", "similarity_zh/LCQMC", "lm_text/poetry", "ner"])
def test_a_sample_of_real_corpora_is_cut_as_the_library_cuts_it(data_folder, folder):
    vocabulary = data_folder / "vocab" / "bert_zh_vocab_21128.txt"
    found = [
        path for path in check_corpora.folders(data_folder) if str(path).startswith(str(data_folder / folder))
    ]
    files = [file for path in found for file in sorted(path.iterdir()) if file.is_file()]
    texts = [text for file in files for text in islice(check_corpora.texts_of(file), 4000)]
    sample = Random(0).sample(texts, 300)
    for check in (check_corpora.wordpiece_check(vocabulary, True), check_corpora.pairs_check(vocabulary)):
        assert [text for text, same in zip(sample, check(sample), strict=True) if not same] == []
