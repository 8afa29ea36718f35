"""The basic half of BERT's tokenizer: clean, isolate Chinese characters, strip accents, split at punctuation.

BERT 分词的前一半：清洗、拆开汉字、去重音、按标点切分；每个字符都记得它在原文中的位置。

Every function is pure. Text on its way is a list of `Placed` characters: the character, and the index of the
original character that it came from, so that a token's place in the original text is exact whatever was
removed, decomposed or lowered before.

Source: Devlin et al. 2018, arXiv 1810.04805; the rules are those of the `tokenizers` library's BERT
normaliser.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hanformer.text.unicode_tables import FORMAT_CHARACTERS, NONSPACING_MARKS, PUNCTUATION

SPACES: Final = (
    "\t\n\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The characters that separate words. 空白字符。"""

CHINESE_RANGES: Final = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),  # as the library has it; Google's code begins at 0x2B820
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
"""The blocks of ideographs, each of which is a word of its own. 汉字区块。"""

_SPACES: Final = frozenset(SPACES)
_REMOVED_CATEGORIES: Final = frozenset({"Cc", "Co", "Cs"})


@dataclass(frozen=True, slots=True)
class BasicRules:
    """What happens to a text before it is cut into pieces. 文本切分前的处理规则。

    `lowercase`: lower every character. `strip_accents`: decompose (NFD) and drop nonspacing marks.
    `split_chinese`: every ideograph is a word of its own.
    """

    lowercase: bool = True
    strip_accents: bool = True
    split_chinese: bool = True


@dataclass(frozen=True, slots=True)
class Word:
    """A word after normalisation, with the original index of each character. 词及其字符在原文中的位置。"""

    text: str
    origins: tuple[int, ...]


Placed = tuple[str, int]
"""A character and the index of the original character that it came from. 字符与其原文位置。"""


def is_space(character: str) -> bool:
    """Whether a character separates words. 是否空白。"""
    return character in _SPACES


def is_removed(character: str) -> bool:
    """Whether cleaning drops a character: controls, formats, private use, surrogates, U+FFFD. 是否被清除。"""
    if character in _SPACES:
        return False
    return (
        character in FORMAT_CHARACTERS
        or character == "\ufffd"
        or unicodedata.category(character) in _REMOVED_CATEGORIES
    )


def is_chinese(character: str) -> bool:
    """Whether a character is an ideograph (kana and hangul are not). 是否汉字。"""
    code = ord(character)
    return code >= 0x3400 and any(first <= code <= last for first, last in CHINESE_RANGES)


def is_punctuation(character: str) -> bool:
    """Whether a character is punctuation: every ASCII sign counts, also ``$``, ``+`` and ``^``. 是否标点。"""
    return character in PUNCTUATION


def words(text: str, rules: BasicRules = BasicRules()) -> list[Word]:
    """The words of a text: runs between spaces, cut at punctuation and, by the rules, at every ideograph.

    把文本切成词，每个字符带原文位置。
    """
    return list(split(normalise(text, rules), rules))


def normalise(text: str, rules: BasicRules = BasicRules()) -> list[Placed]:
    """Clean a text and, by the rules, strip accents and lower it; nothing is cut yet. 规范化，尚未切分。"""
    placed: Iterable[Placed] = clean(text)
    if rules.strip_accents:
        placed = strip_accents(placed)
    if rules.lowercase:
        placed = lowercase(placed)
    return list(placed)


def split(placed: Iterable[Placed], rules: BasicRules = BasicRules()) -> Iterator[Word]:
    """Cut normalised characters at blanks and punctuation and, by the rules, at every ideograph.

    按空格、标点（及汉字）切成词。
    """
    for chunk in isolate(placed, rules.split_chinese):
        yield from split_punctuation(chunk)


def word_strings(text: str) -> list[str]:
    """The words of a text as strings, under the default rules, for `Vocabulary.build`. 词的字符串列表。"""
    return [word.text for word in words(text)]


def clean(text: str) -> Iterator[Placed]:
    """Drop what cannot be read and make every space a blank. 清除不可读字符，空白统一为空格。"""
    for place, character in enumerate(text):
        if character in _SPACES:
            yield " ", place
        elif not is_removed(character):
            yield character, place


def isolate(placed: Iterable[Placed], split_chinese: bool = True) -> Iterator[list[Placed]]:
    """Cut at blanks, and around every ideograph. 按空格切分，并把汉字单独切出。"""
    chunk: list[Placed] = []
    for item in placed:
        alone = split_chinese and is_chinese(item[0])
        if (alone or item[0] == " ") and chunk:
            yield chunk
            chunk = []
        if alone:
            yield [item]
        elif item[0] != " ":
            chunk.append(item)
    if chunk:
        yield chunk


def strip_accents(placed: Iterable[Placed]) -> list[Placed]:
    """Decompose every character (NFD) and drop nonspacing marks. 规范分解并去掉重音等标记。"""
    return [item for item in decompose(placed) if item[0] not in NONSPACING_MARKS]


def decompose(placed: Iterable[Placed]) -> list[Placed]:
    """Canonical decomposition (NFD), each part at the place of its character. 规范分解。"""
    parts = [(part, place) for item, place in placed for part in unicodedata.normalize("NFD", item)]
    return _canonical_order(parts)


def lowercase(placed: Iterable[Placed]) -> list[Placed]:
    """Lower each character on its own, so that a final sigma is as any other. 逐字符转小写。"""
    return [(part, place) for item, place in placed for part in item.lower()]


def split_punctuation(placed: Iterable[Placed]) -> Iterator[Word]:
    """Make every punctuation character a word of its own. 把每个标点单独成词。"""
    run: list[Placed] = []
    for item in placed:
        if item[0] not in PUNCTUATION:
            run.append(item)
            continue
        if run:
            yield word_of(run)
            run = []
        yield word_of([item])
    if run:
        yield word_of(run)


def word_of(run: Sequence[Placed]) -> Word:
    """A word of placed characters. 由带位置的字符组成词。"""
    return Word("".join(character for character, _ in run), tuple(place for _, place in run))


def _canonical_order(placed: list[Placed]) -> list[Placed]:
    """Sort each run of combining marks by its class, which NFD of the whole text would do. 规范排序。"""
    classes = [unicodedata.combining(character) for character, _ in placed]
    if not any(classes):
        return placed
    starters = 0
    keys = []
    for place, combining in enumerate(classes):
        starters += combining == 0
        keys.append((starters, combining, place))
    return [placed[place] for _, _, place in sorted(keys)]
