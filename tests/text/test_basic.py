"""Basic tokenization: the character classes of the library, and the place of every character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from hanformer.text.basic import (
    CHINESE_RANGES,
    BasicRules,
    clean,
    is_chinese,
    is_punctuation,
    is_removed,
    is_space,
    words,
)

# Every code point where classes change from one to the next, and some of the wide blocks where they do not.
WIDE = (
    (0x3400, 0x9FFF),
    (0xA000, 0xA48C),
    (0xAC00, 0xD7A3),
    (0xE000, 0xF8FF),
    (0x12000, 0x18CFF),
    (0x1F000, 0x10FFFF),
)
BORDERS = {code + step for block in (*WIDE, *CHINESE_RANGES) for code in block for step in (-1, 0, 1)}
CODES = (c for c in range(0x110000) if c % 199 == 0 or c in BORDERS or not any(a <= c <= b for a, b in WIDE))
MANY = "".join(chr(code) for code in CODES if not 0xD800 <= code < 0xE000)
PLAIN = BasicRules(lowercase=False, strip_accents=False, split_chinese=False)


def test_cleaning_agrees_with_the_library_on_code_points():
    normaliser = BertNormalizer(handle_chinese_chars=False, strip_accents=False, lowercase=False)
    assert "".join(character for character, _ in clean(MANY)) == normaliser.normalize_str(MANY)


def test_chinese_agrees_with_the_library_on_code_points():
    normaliser = BertNormalizer(clean_text=False, strip_accents=False, lowercase=False)
    ours = "".join(f" {character} " if is_chinese(character) else character for character in MANY)
    assert ours == normaliser.normalize_str(MANY)


def test_punctuation_agrees_with_the_library_on_code_points():
    # Between letters, a sign that stands alone is punctuation, and one that vanishes is space.
    readable = [character for character in MANY if not is_removed(character) and not is_space(character)]
    alone = {piece for piece, _ in BertPreTokenizer().pre_tokenize_str("a".join(readable)) if len(piece) == 1}
    assert alone - {"a"} == {character for character in readable if is_punctuation(character)}


def test_accents_agree_with_the_library_on_code_points():
    normaliser = BertNormalizer(handle_chinese_chars=False, strip_accents=True, lowercase=False)
    # With blanks between them, so that marks cannot move; U+11938 is younger than the library's tables.
    known = [c for c in MANY if not is_removed(c) and not is_space(c) and c != "\U00011938"]
    rules = BasicRules(lowercase=False, strip_accents=True, split_chinese=False)
    ours = ["".join(word.text for word in words(character, rules)) for character in known]
    assert ours == normaliser.normalize_str("\n".join(known)).split(" ")


def test_lone_surrogates_are_removed_and_blank_text_has_no_words():
    assert [word.text for word in words("a\ud800b")] == ["ab"]
    assert words("") == words(" \u3000\n\x00") == []


def test_places_survive_removal_decomposition_and_lowering():
    text = "É\u200dTé x中,각"
    found = [(word.text, word.origins) for word in words(text)]
    assert found == [
        ("ete", (0, 2, 3)),
        ("x", (5,)),
        ("中", (6,)),
        (",", (7,)),
        ("\u1100\u1161\u11a8", (8, 8, 8)),
    ]


def test_words_of_a_longer_lowercase_keep_one_place():
    rules = BasicRules(lowercase=True, strip_accents=False)
    assert [(word.text, word.origins) for word in words("aİb", rules)] == [("ai̇b", (0, 1, 1, 2))]


def test_marks_are_put_in_canonical_order_with_their_places():
    # U+302E (class 224) is no nonspacing mark, U+0301 (class 230) is; before it comes U+16FF0 (class 6).
    assert [(word.text, word.origins) for word in words("a\u0301\u302e\U00016ff0")] == [
        ("a\U00016ff0\u302e", (0, 3, 2))
    ]


@given(text=st.text(max_size=30))
def test_without_rules_a_word_is_its_own_place(text):
    for word in words(text, PLAIN):
        assert word.text == "".join(text[place] for place in word.origins)
        assert sorted(set(word.origins)) == list(word.origins)


@pytest.mark.parametrize("character", ["々", "あ", "한", "〇", "A"])
def test_kana_hangul_and_iteration_marks_are_not_chinese(character):
    assert not is_chinese(character)
