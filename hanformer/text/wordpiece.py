"""BERT's tokenizer: basic words, then the longest pieces that the vocabulary holds, with exact offsets.

BERT 的 WordPiece 分词：先切成词，再在词内贪心取最长子词；偏移量精确对应原文。

    piece_1 = the longest prefix of the word in V;  piece_k = the longest "##" + prefix of the rest in V;
    a word with a rest that has no piece, or of more than `longest_word` characters, is one [UNK].

Fast path: a text is cut by one regular expression into runs of ideographs and common punctuation, each
character of which is a token by one look-up, and other chunks, which go the whole way once and are
remembered.

Source: Devlin et al. 2018, arXiv 1810.04805; equal to `BertWordPieceTokenizer` of the tokenizers library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.text.basic import SPACES, BasicRules, Word, words
from hanformer.text.joining import join
from hanformer.text.protocols import Encoding, Pieces, bare, frame, frame_pair
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.weights.atomic import write_text

CONTINUATION: Final = "##"
"""What a piece that does not begin its word begins with. 非词首子词的前缀。"""

# Only what is common: punctuation that is not here goes the long way, with the same result.
_PUNCTUATION: Final = (
    r"!-/:-@\[-`{-~\u00b7\u2010-\u2027\u3001-\u3003\u3008-\u3011\u3014-\u301f"
    r"\uff01-\uff03\uff05-\uff0a\uff0c-\uff0f\uff1a\uff1b\uff1f\uff20\uff3b-\uff3d\uff3f\uff5b\uff5d"
)
_IDEOGRAPHS: Final = r"\u4e00-\u9fff\u3400-\u4dbf"
_UNITS: Final = tuple((place, place + 1) for place in range(2048))
_REMEMBERED: Final = 1 << 16
_LONGEST_REMEMBERED: Final = 64

_Found = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]


class WordPieceTokenizer:
    """Cuts text as Google's BERT does. 与谷歌 BERT 一致的分词器。

    `lowercase` lowers letters; `strip_accents` follows it unless given; `split_chinese` makes every ideograph
    a word; `longest_word` bounds a word in characters. Special and added tokens of the vocabulary are found
    in the raw text first (the longest one, from the left) and never split; with `read_specials` false only
    added ones.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        lowercase: bool = True,
        *,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
        longest_word: int = 100,
        read_specials: bool = True,
    ) -> None:
        self._vocabulary = vocabulary
        self.rules = BasicRules(
            lowercase, lowercase if strip_accents is None else strip_accents, split_chinese
        )
        self.longest_word = longest_word
        self.read_specials = read_specials
        self._unknown = vocabulary.unk_id
        self._longest_piece = max(map(len, vocabulary.tokens), default=0)
        self._single = _Single(vocabulary)
        self._remembered: dict[str, _Found] = {}
        self._chunks = _chunk_pattern(split_chinese)
        self._atomic = _atomic_pattern(vocabulary.atomic if read_specials else vocabulary.added)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens and their ids. 词表。"""
        return self._vocabulary

    def encode(
        self, text: str, maximum_length: int | None = None, *, special_tokens: bool = True
    ) -> Encoding:
        """``[CLS] text [SEP]`` as ids, tokens and offsets; with `special_tokens` false the text alone.

        编码一段文本；`maximum_length` 含特殊词元，截断时 `truncated` 为真。

        Raises: UserError where `maximum_length` has no room for the special tokens.
        """
        pieces = self.pieces(text)
        if special_tokens:
            return frame(self._vocabulary, pieces, maximum_length)
        return bare(self._vocabulary, pieces, maximum_length)

    def encode_pair(self, first: str, second: str, maximum_length: int | None = None) -> Encoding:
        """``[CLS] first [SEP] second [SEP]``; segments 0 and 1; the longer text is cut first.

        编码一对文本，超长时先截较长者。

        Raises: UserError where `maximum_length` has no room for the special tokens.
        """
        return frame_pair(self._vocabulary, self.pieces(first), self.pieces(second), maximum_length)

    def pieces(self, text: str) -> Pieces:
        """Ids and offsets of a text with nothing put around it. 仅文本本身的编号与位置。"""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        start = 0
        if self._atomic is not None:
            for match in self._atomic.finditer(text):
                self._cut(text, start, match.start(), ids, offsets)
                ids.append(self._vocabulary.ids[match.group()])
                offsets.append(match.span())
                start = match.end()
        self._cut(text, start, len(text), ids, offsets)
        return Pieces(ids, offsets)

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Text of ids: pieces joined, blanks only where Latin words need them; added tokens stay.

        解码为可读文本。

        Raises: UserError for an id out of range.
        """
        dropped = frozenset(self._vocabulary.specials.names() if skip_specials else ())
        return join(
            (token for token in self._vocabulary.tokens_of(ids) if token not in dropped), CONTINUATION
        )

    def save(self, folder: str | Path) -> None:
        """Write vocab.txt and tokenizer_config.json, which `transformers` reads as well.

        保存词表与配置。

        Raises: UserError where they cannot be written.
        """
        folder = Path(folder)
        self._vocabulary.save(folder / "vocab.txt")
        write_text(
            folder / "tokenizer_config.json", json.dumps(self._config(), ensure_ascii=False, indent=2) + "\n"
        )

    @classmethod
    def load(cls, folder: str | Path) -> WordPieceTokenizer:
        """Read a folder with vocab.txt and, if there is one, tokenizer_config.json (by default, lowercase).

        从文件夹读取分词器。

        Raises: UserError naming the file that is missing or cannot be used.
        """
        folder = Path(folder)
        config = _read_config(folder / "tokenizer_config.json")
        roles = [role for role in ("pad", "unk", "cls", "sep", "mask") if f"{role}_token" in config]
        named = {role: _written(config[f"{role}_token"]) for role in roles}
        signs = config.get("additional_special_tokens")
        added = [_written(sign) or "" for sign in signs] if isinstance(signs, list) else []
        vocabulary = Vocabulary.from_file(folder / "vocab.txt", SpecialTokens(**named)).with_added(added)
        accents = config.get("strip_accents")
        longest_word = config.get("max_input_chars_per_word", 100)
        return cls(
            vocabulary,
            lowercase=bool(config.get("do_lower_case", True)),
            strip_accents=None if accents is None else bool(accents),
            split_chinese=bool(config.get("tokenize_chinese_chars", True)),
            longest_word=longest_word if isinstance(longest_word, int) else 100,
            read_specials=not config.get("split_special_tokens", False),
        )

    def _config(self) -> dict[str, object]:
        specials = self._vocabulary.specials
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.rules.lowercase,
            "strip_accents": self.rules.strip_accents,
            "tokenize_chinese_chars": self.rules.split_chinese,
            "max_input_chars_per_word": self.longest_word,
            "split_special_tokens": not self.read_specials,
            "pad_token": specials.pad,
            "unk_token": specials.unk,
            "cls_token": specials.cls,
            "sep_token": specials.sep,
            "mask_token": specials.mask,
            "additional_special_tokens": list(self._vocabulary.added),
        }

    def _cut(self, text: str, start: int, end: int, ids: list[int], offsets: list[tuple[int, int]]) -> None:
        """Append the pieces of text[start:end]."""
        single, remembered = self._single.__getitem__, self._remembered.get
        for match in self._chunks.finditer(text, start, end):
            first, last = match.span()
            chunk = match.group()
            if match.lastindex:
                ids += map(single, chunk)
                offsets += _units(first, last)
            else:
                found_ids, found_offsets = remembered(chunk) or self._find(chunk)
                ids += found_ids
                offsets += [(first + left, first + right) for left, right in found_offsets]

    def _find(self, chunk: str) -> _Found:
        found = self._find_anew(chunk)
        if len(chunk) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[chunk] = found
        return found

    def _find_anew(self, chunk: str) -> _Found:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for word in words(chunk, self.rules):
            borders = self._borders(word.text)
            if borders is None:
                ids.append(self._unknown)
                offsets.append(_span(word, 0, len(word.text)))
                continue
            for left, right, number in borders:
                ids.append(number)
                offsets.append(_span(word, left, right))
        return tuple(ids), tuple(offsets)

    def _borders(self, word: str) -> list[tuple[int, int, int]] | None:
        """(start, end, id) of each piece of a word; None where it has to be unknown."""
        if len(word) > self.longest_word:
            return None
        found: list[tuple[int, int, int]] = []
        start, prefix, known = 0, "", self._vocabulary.ids
        while start < len(word):
            end = min(len(word), start + self._longest_piece)
            while end > start and prefix + word[start:end] not in known:
                end -= 1
            if end == start:
                return None
            found.append((start, end, known[prefix + word[start:end]]))
            start, prefix = end, CONTINUATION
        return found


def character_pieces(text: str) -> list[str]:
    """The characters of a text as WordPiece writes them: ``ab 中`` is ``a``, ``##b``, ``中``.

    把文本拆成字符级子词，用于建立覆盖所有字符的词表。

    A vocabulary built from these leaves no word of known characters unknown.
    """
    return [
        character if place == 0 else CONTINUATION + character
        for word in words(text)
        for place, character in enumerate(word.text)
    ]


class _Single(dict[str, int]):
    """The ids of single characters; what is missing is unknown."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__((token, number) for token, number in vocabulary.ids.items() if len(token) == 1)
        self.unknown = vocabulary.unk_id

    def __missing__(self, character: str) -> int:
        return self.unknown

    def __reduce__(self) -> tuple[object, ...]:
        return (_restored_single, (dict(self), self.unknown))


def _restored_single(ids: dict[str, int], unknown: int) -> _Single:
    single = _Single.__new__(_Single)
    single.update(ids)
    single.unknown = unknown
    return single


def _chunk_pattern(split_chinese: bool) -> re.Pattern[str]:
    single = _PUNCTUATION + (_IDEOGRAPHS if split_chinese else "")
    return re.compile(f"([{single}]+)|[^{re.escape(SPACES)}{single}]+")


def _atomic_pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _units(first: int, last: int) -> Iterable[tuple[int, int]]:
    if last <= len(_UNITS):
        return _UNITS[first:last]
    return zip(range(first, last), range(first + 1, last + 1), strict=True)


def _span(word: Word, left: int, right: int) -> tuple[int, int]:
    origins = word.origins[left:right]
    return min(origins), max(origins) + 1


def _read_config(path: Path) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a JSON object ({error}); repair the file or delete it") from None
    if not isinstance(config, dict):
        raise UserError(
            f"{path}: expected a JSON object, found {type(config).__name__}; repair the file or delete it"
        )
    return config


def _written(token: object) -> str | None:
    """The text of a token, which newer files write as an object with a content field."""
    content = token.get("content") if isinstance(token, dict) else token
    if content is not None and not isinstance(content, str):
        raise UserError(
            f"tokenizer_config.json: a special token is {token!r}, expected text; repair the file"
        )
    return content
