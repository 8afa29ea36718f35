"""The vocabulary: file round trips, counted construction, named errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.basic import word_strings
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.text.wordpiece import character_pieces

token_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=5)


@given(tokens=st.lists(token_texts, unique=True))
def test_a_file_gives_back_the_same_tokens(tmp_path_factory, tokens):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    vocabulary = Vocabulary(dict.fromkeys(["[UNK]", *tokens]))
    vocabulary.save(path)
    assert Vocabulary.from_file(path) == vocabulary


def test_odd_white_space_is_a_token_of_its_own(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[UNK]\n\u2028\n\u3000\n\n\x85\n a \n\t".encode())
    assert Vocabulary.from_file(path).tokens == ("[UNK]", "\u2028", "\u3000", "", "\x85", " a ", "\t")


def test_windows_line_ends_and_a_byte_order_mark_are_not_part_of_tokens(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"\xef\xbb\xbf[UNK]\r\na\r\n")
    assert Vocabulary.from_file(path).tokens == ("[UNK]", "a")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[UNK]\na\nb\na\n", r"'a' stands on line 2 and again on line 4"),
        (b"[PAD]\na\n", r"\[UNK\] is missing"),
        (b"", r"\[UNK\] is missing"),
        (b"[UNK]\n\xff\n", "line 2 is not UTF-8"),
    ],
)
def test_defects_of_a_file_are_named(tmp_path, content, said):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        Vocabulary.from_file(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_token_that_fits_on_no_line_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Vocabulary.from_file(tmp_path / "vocab.txt")
    with pytest.raises(UserError, match=r"'a\\nb' \(id 1\)"):
        Vocabulary(["[UNK]", "a\nb"]).save(tmp_path / "vocab.txt")
    assert not (tmp_path / "vocab.txt").exists()


def test_build_orders_by_count_then_code_point():
    texts = ["中 b a", "a 中 中", "丁 丁 z"]
    built = Vocabulary.build(texts, word_strings, minimum_count=2, added=["[N0]"])
    assert built.tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[N0]", "中", "a", "丁")
    assert Vocabulary.build(reversed(texts), word_strings, minimum_count=2, added=["[N0]"]) == built
    assert Vocabulary.build(texts, word_strings, size=7).tokens[-2:] == ("中", "a")
    with pytest.raises(UserError, match="no room"):
        Vocabulary.build(texts, word_strings, size=4)


def test_character_pieces_cover_words_of_known_characters():
    assert character_pieces("Ab中 c1") == ["a", "##b", "中", "c", "##1"]


def test_ids_tokens_and_special_ids():
    vocabulary = Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "中"])
    assert vocabulary.ids_of(["中", "国", "[CLS]"]) == [5, 1, 2]
    assert vocabulary.tokens_of([5, 0]) == ["中", "[PAD]"]
    ids = [vocabulary.pad_id, vocabulary.unk_id, vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id]
    assert ids == [0, 1, 2, 3, 4]
    for number in (6, -1):
        with pytest.raises(UserError, match="6 tokens"):
            vocabulary.tokens_of([number])


def test_roles_can_be_absent_or_written_otherwise():
    vocabulary = Vocabulary(
        ["<unk>", "a"], SpecialTokens(pad=None, unk="<unk>", cls=None, sep=None, mask=None)
    )
    assert vocabulary.unk_id == 0
    with pytest.raises(UserError, match="no pad token"):
        _ = vocabulary.pad_id
    with pytest.raises(UserError, match="no cls token"):
        _ = Vocabulary(["[UNK]"]).cls_id


def test_added_tokens_keep_ids_that_exist():
    vocabulary = Vocabulary(["[UNK]", "[unused1]", "a"]).with_added(["[unused1]", "[N0]", "[N0]"])
    assert vocabulary.tokens == ("[UNK]", "[unused1]", "a", "[N0]")
    assert vocabulary.atomic == ("[UNK]", "[unused1]", "[N0]")
    with pytest.raises(UserError, match="with_added"):
        Vocabulary(["[UNK]"], added=["[N0]"])


def test_published_vocabularies_round_trip(data_folder, tmp_path):
    for name in ("bert_zh_vocab_21128.txt", "bert_en_uncased_vocab_30522.txt", "wobert_base_vocab.txt"):
        path = data_folder / "vocab" / name
        vocabulary = Vocabulary.from_file(path)
        vocabulary.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == path.read_bytes()
    assert len(Vocabulary.from_file(data_folder / "vocab" / "bert_zh_vocab_21128.txt")) == 21128
