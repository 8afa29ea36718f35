"""Vocabularies made smaller, larger, cased; the rows of the embedding that go with them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.vocabulary_tools import VocabularyChange, cased, extended, is_redundant, simplified
from hanformer.text.wordpiece import WordPieceTokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def rows(change: VocabularyChange, old: torch.Tensor) -> torch.Tensor:
    """What the loader of a model does with a change."""
    kept = old[list(change.keep_tokens)]
    means = [kept[list(group)].mean(0, keepdim=True) for group in change.compound_tokens]
    return torch.cat([kept, *means])


@pytest.mark.parametrize("token", ["##中", "中国", "...", "##，", "a.b", "[unused1]", "«a", "##..."])
def test_redundant(token):
    assert is_redundant(token)


@pytest.mark.parametrize("token", ["中", ".", "##a", "ab", "##", "#", "12", "日本語"[2:], "あい", ""])
def test_not_redundant(token):
    assert not is_redundant(token)


def test_simplified_begins_with_what_is_asked_and_keeps_the_order():
    vocabulary = Vocabulary(["x", "##中", "[UNK]", "中", "[unused1]", "##b", "[N0]", "[PAD]"]).with_added(
        ["[N0]"]
    )
    change = simplified(vocabulary, ["[PAD]", "[UNK]"])
    assert change.vocabulary.tokens == ("[PAD]", "[UNK]", "x", "中", "##b", "[N0]")
    assert change.keep_tokens == (7, 2, 0, 3, 5, 6) and change.vocabulary.added == ("[N0]",)
    with pytest.raises(UserError, match="CLS"):
        simplified(vocabulary)
    with pytest.raises(UserError, match="UNK"):
        simplified(vocabulary, ["[PAD]"])


@given(tokens=st.lists(st.text("ab中#，.", min_size=1, max_size=4), unique=True))
def test_a_kept_row_is_the_row_of_the_same_token(tokens):
    vocabulary = Vocabulary(dict.fromkeys([*SPECIALS, *tokens]))
    change = simplified(vocabulary)
    old = torch.arange(len(vocabulary))
    assert [vocabulary.tokens[number] for number in old[list(change.keep_tokens)]] == list(
        change.vocabulary.tokens
    )
    dropped = set(vocabulary.tokens) - set(change.vocabulary.tokens)
    assert dropped == {token for token in tokens if is_redundant(token)} - set(SPECIALS)


def test_a_new_token_is_the_mean_of_its_pieces():
    vocabulary = Vocabulary([*SPECIALS, "中", "国", "un", "##able"])
    tokenizer = WordPieceTokenizer(vocabulary)
    change = extended(vocabulary, ["中国", "中", "unable", "中国"], lambda token: tokenizer.pieces(token).ids)
    assert change.vocabulary.tokens[len(vocabulary) :] == ("中国", "unable")
    assert change.compound_tokens == ((5, 6), (7, 8))
    old = torch.randn(len(vocabulary), 3)
    new = rows(change, old)
    assert torch.equal(new[: len(vocabulary)], old) and torch.allclose(new[-1], old[7:9].mean(0))


@pytest.mark.parametrize("pieces", [[], [9], [-1]])
def test_a_new_token_without_usable_pieces_is_named(pieces):
    with pytest.raises(UserError, match="'中国'"):
        extended(Vocabulary([*SPECIALS, "中"]), ["中国"], lambda token: pieces)


def test_cased_has_first_capitals_and_capitals_of_what_has_letters_alone():
    vocabulary = Vocabulary(["[UNK]", "to", "##ing", "a1", "中", "US", "us", "ß", "ღ", "##"])
    change = cased(vocabulary)
    assert change.vocabulary.tokens[10:] == ("To", "TO", "##ING", "Us", "SS")
    assert change.compound_tokens == ((1,), (1,), (2,), (6,), (7,))


def test_the_published_vocabulary_made_cased(data_folder):
    vocabulary = Vocabulary.from_file(data_folder / "vocab" / "bert_zh_vocab_21128.txt")
    change = cased(vocabulary)
    assert len(change.compound_tokens) == 5596 == len(change.vocabulary) - 21128
    tokens = WordPieceTokenizer(change.vocabulary, False).encode("Welcome to BEIJING.").tokens[1:-1]
    assert tokens == ["Welcome", "to", "BE", "##I", "##JING", "."]
