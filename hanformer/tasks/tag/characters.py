"""A token for every character of a text, with the vocabulary of any tokenizer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from hanformer.text.protocols import Encoding, Pieces, Tokenizer, bare, frame, frame_pair
from hanformer.text.vocabulary import Vocabulary

_WIDE = 0xFEE0


class CharacterTokens:
    """Gives every character of a text, blanks too, exactly one token: spans of characters are spans of tokens.

    逐字切分：每个字符（含空白）恰好一个词元，片段边界不会落在词元之内。

    A character's id is what the tokenizer makes of it alone; where that is not one known token, what it makes of its
    other width (１ and 1, ， and ,) or compatible form; else the unknown id. Otherwise a `Tokenizer`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._ids: dict[str, int] = {}

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens and their ids."""
        return self.tokenizer.vocabulary

    def encode(
        self, text: str, maximum_length: int | None = None, *, special_tokens: bool = True
    ) -> Encoding:
        """``[CLS] text [SEP]``; with `special_tokens` false the characters alone."""
        put = frame if special_tokens else bare
        return put(self.vocabulary, self._pieces(text), maximum_length)

    def encode_pair(self, first: str, second: str, maximum_length: int | None = None) -> Encoding:
        """``[CLS] first [SEP] second [SEP]``."""
        return frame_pair(self.vocabulary, self._pieces(first), self._pieces(second), maximum_length)

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Readable text of ids."""
        return self.tokenizer.decode(ids, skip_specials=skip_specials)

    def save(self, folder: str | Path) -> None:
        """Writes the tokenizer whose vocabulary this is."""
        self.tokenizer.save(folder)

    def _pieces(self, text: str) -> Pieces:
        return Pieces([self._id(one) for one in text], [(place, place + 1) for place in range(len(text))])

    def _id(self, character: str) -> int:
        found = self._ids.get(character)
        if found is None:
            found = self._ids[character] = self._look_up(character)
        return found

    def _look_up(self, character: str) -> int:
        unknown = self.vocabulary.unk_id
        for form in (character, unicodedata.normalize("NFKC", character), _widened(character)):
            ids = self.tokenizer.encode(form, special_tokens=False).ids
            if len(ids) == 1 and ids[0] != unknown:
                return ids[0]
        return unknown


def _widened(character: str) -> str:
    """The full-width form of an ASCII sign, which has one; else the character."""
    return chr(ord(character) + _WIDE) if "!" <= character <= "~" else character
