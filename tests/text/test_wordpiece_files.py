"""The folders of others: Google's, Hugging Face's old and new ones, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, BertWordPieceTokenizer

from hanformer.errors import UserError
from hanformer.text.conventions import BERT4KERAS
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "中", "天气", "a", "A", "##b", "é", "e"]
TEXT = "中[MASK] Ab É [N0]" + "b" * 50


def library(lowercase: bool) -> BertWordPieceTokenizer:
    ids = {token: number for number, token in enumerate(TOKENS)}
    return BertWordPieceTokenizer(ids, lowercase=lowercase)


def google(folder: Path) -> Path:
    path = folder / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    return path


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def test_googles_folder_and_its_vocabulary_alone(tmp_path):
    path = google(tmp_path)
    for place in (tmp_path, path, str(path)):
        assert WordPieceTokenizer.load(place).encode("Ab").tokens[1:-1] == ["a", "##b"]
    assert WordPieceTokenizer.load(path, lowercase=False).encode("A É").tokens[1:-1] == ["A", "[UNK]"]
    renamed = path.rename(tmp_path / "words.txt")
    assert len(WordPieceTokenizer.load(renamed).vocabulary) == len(TOKENS)


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_tokenizer_json_alone_is_read(tmp_path, lowercase):
    theirs = library(lowercase)
    theirs.add_special_tokens([AddedToken("[N0]", normalized=False)])
    theirs.save(str(tmp_path / "tokenizer.json"))
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        ours = WordPieceTokenizer.load(place)
        mine, other = ours.encode(TEXT), theirs.encode(TEXT)
        assert (mine.ids, mine.offsets) == (other.ids, other.offsets)
        assert ours.vocabulary["[N0]"] == len(TOKENS) and ours.rules.lowercase == lowercase


def test_what_the_config_says_is_preferred_and_options_go_first(tmp_path):
    library(True).save(str(tmp_path / "tokenizer.json"))
    write_json(tmp_path / "tokenizer_config.json", {"do_lower_case": False, "strip_accents": False})
    assert WordPieceTokenizer.load(tmp_path).rules.lowercase is False
    asked = WordPieceTokenizer.load(tmp_path, lowercase=True, convention="bert4keras")
    assert asked.rules.lowercase and asked.rules.strip_accents and asked.convention is BERT4KERAS


@pytest.mark.parametrize(
    "config",
    [
        {"additional_special_tokens": ["[N0]", {"content": "[N1]"}]},
        {"extra_special_tokens": {"first": "[N0]", "second": "[N1]"}},
        {
            "added_tokens_decoder": {
                "13": {"content": "[N1]"},
                "12": {"content": "[N0]"},
                "0": {"content": "[PAD]"},
            }
        },
    ],
)
def test_added_tokens_are_found_where_folders_name_them(tmp_path, config):
    google(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", config)
    assert WordPieceTokenizer.load(tmp_path).vocabulary.tokens[12:] == ("[N0]", "[N1]")
    (tmp_path / "tokenizer_config.json").unlink()
    write_json(tmp_path / "added_tokens.json", {"[N1]": 13, "[N0]": 12})
    assert WordPieceTokenizer.load(tmp_path).vocabulary.added == ("[N0]", "[N1]")


@pytest.mark.parametrize("lowercase", [True, False])
def test_folders_that_transformers_writes_are_read_and_ours_are_read_by_it(tmp_path, lowercase):
    import transformers

    path = google(tmp_path)
    theirs = transformers.BertTokenizer(vocab=str(path), do_lower_case=lowercase)
    theirs.add_special_tokens({"additional_special_tokens": ["[N0]"]})
    theirs.save_pretrained(tmp_path / "theirs")
    ours = WordPieceTokenizer.load(tmp_path / "theirs")
    assert ours.encode(TEXT).ids == theirs(TEXT)["input_ids"]
    ours.save(tmp_path / "ours")
    again = transformers.BertTokenizer.from_pretrained(tmp_path / "ours")
    assert again(TEXT)["input_ids"] == theirs(TEXT)["input_ids"]


def test_the_convention_is_saved(tmp_path):
    WordPieceTokenizer(Vocabulary(TOKENS), False, convention=BERT4KERAS).save(tmp_path)
    loaded = WordPieceTokenizer.load(tmp_path)
    assert (loaded.convention, loaded.longest_word, loaded.read_specials) == (BERT4KERAS, 200, False)
    with pytest.raises(UserError, match="transformers, bert4keras"):
        WordPieceTokenizer.load(tmp_path, convention="keras")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer_config.json", {"do_lower_case": "yes"}, "do_lower_case is 'yes', expected true or false"),
        ("tokenizer_config.json", {"max_input_chars_per_word": -1}, "positive whole number"),
        ("tokenizer_config.json", {"unk_token": 3}, "special token is 3"),
        ("tokenizer_config.json", {"additional_special_tokens": "[N0]"}, "expected a list"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": "[N0]"}}, "expected an id"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"40": "[N0]"}}, "do not belong together"),
        ("tokenizer_config.json", {"convention": "x"}, "convention"),
        ("tokenizer_config.json", {"word_segmenter": "x"}, "segmenter"),
        ("tokenizer_config.json", [1], "JSON object"),
        ("added_tokens.json", {"[N0]": "x"}, "expected an id"),
        ("added_tokens.json", {"中": 7}, "do not belong together"),
        ("tokenizer.json", {"added_tokens": [3]}, "special token is 3"),
        ("tokenizer.json", {"added_tokens": [{"id": 3}]}, "content and id"),
        ("tokenizer.json", {"model": 3}, "expected an object"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, said):
    google(tmp_path)
    write_json(tmp_path / name, content)
    with pytest.raises(UserError, match=said):
        WordPieceTokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"type": "BPE", "vocab": {"[UNK]": 0}}, "WordPiece"),
        ({"vocab": {"[UNK]": 1}}, "not 0 to 0"),
        ({"vocab": {"[UNK]": 0, "a": 0}}, "not 0 to 1"),
        ({"vocab": {"[UNK]": True}}, "not 0 to 0"),
        ({"vocab": {"a": 0}}, r"\[UNK\] is missing"),
    ],
)
def test_a_damaged_tokenizer_json_is_named(tmp_path, model, said):
    write_json(tmp_path / "tokenizer.json", {"model": model})
    with pytest.raises(UserError, match=said):
        WordPieceTokenizer.load(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        WordPieceTokenizer.load(tmp_path / "nowhere")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 20) | st.text("[N0]中", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "id", "vocab", "12", "[N0]", "type"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
NAMES = [
    *("do_lower_case", "strip_accents", "max_input_chars_per_word", "unk_token", "cls_token", "convention"),
    *("additional_special_tokens", "extra_special_tokens", "added_tokens_decoder", "added_tokens", "model"),
    *("normalizer", "word_segmenter", "split_special_tokens", "tokenize_chinese_chars"),
]


@given(
    name=st.sampled_from(["tokenizer_config.json", "tokenizer.json", "added_tokens.json"]),
    content=st.dictionaries(st.sampled_from(NAMES), values, max_size=3),
    with_vocabulary=st.booleans(),
)
def test_any_json_is_read_or_refused(tmp_path_factory, name, content, with_vocabulary):
    folder = tmp_path_factory.mktemp("folder")
    if with_vocabulary:
        google(folder)
    write_json(folder / name, content)
    try:
        WordPieceTokenizer.load(folder).encode(TEXT, special_tokens=False)
    except UserError as error:
        assert str(error)


@given(content=st.binary(max_size=40), name=st.sampled_from(["vocab.txt", "tokenizer_config.json"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, name):
    folder = tmp_path_factory.mktemp("folder")
    google(folder)
    (folder / name).write_bytes(content)
    try:
        WordPieceTokenizer.load(folder)
    except UserError as error:
        assert name in str(error)
