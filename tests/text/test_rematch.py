"""Places of tokens found from the tokens alone."""

from __future__ import annotations

import pytest

from hanformer.errors import UserError
from hanformer.text.rematch import rematch, rematch_as_bert4keras

BOTH = pytest.mark.parametrize("find", [rematch, rematch_as_bert4keras])


@BOTH
def test_pieces_special_tokens_and_removed_characters(find):
    assert find("Ab c\x00d中", ["[CLS]", "a", "##b", "cd", "中", "[SEP]"]) == [[], [0], [1], [3, 5], [6], []]


def test_a_syllable_of_several_parts_has_its_place_once_by_default():
    parts = ["ᄒ", "##ᅡᆫ"]
    assert rematch("한", parts) == [[0], [0]]
    assert rematch_as_bert4keras("한", parts) == [[0], [0, 0]]


@BOTH
def test_with_case_nothing_is_lowered(find):
    assert find("É E", ["É", "E"], False) == [[0], [2]]


@BOTH
def test_a_token_that_is_not_there_is_named(find):
    with pytest.raises(UserError, match="token 1, 'x', is not found"):
        find("ab", ["a", "x"])
    with pytest.raises(UserError, match="'a'"):
        find("ab", ["b", "a"])
