"""What bert4keras' tokenizer does differently from the `tokenizers` library with the same vocabulary.

bert4keras 分词器的规则：规范化、切词、成对截断、拼接文本。

    normalise: lower the whole text (a final sigma becomes its final form), decompose, drop nonspacing marks;
    split: signs of category P and ideographs stand alone, spaces of category Zs cut, controls (Cc, Cf), U+0000
    and U+FFFD vanish; private characters and surrogates stay;
    pairs: the longer text loses its last token, the first of two equals, until both fit.

Python's own Unicode tables are used, as bert4keras uses them, so characters newer than the Python that runs
may be cut differently under another one.

Source: bert4keras 0.11.5 (`tokenizers.py`, `snippets.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from hanformer.text.basic import BasicRules, Placed, Word, decompose, lowercase, word_of

LONGEST_WORD: Final = 200
"""A word of more characters is unknown. 词的最大长度。"""

_IDEOGRAPHS: Final = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
_SIGMA: Final = "Σ"
# Signs after which no blank stays: fullwidth and Chinese ones, and those that open or join.
_TIGHT: Final = (
    "＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､\u3000、〃〈〉《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟"
    "〰〾〿–—‘’‛“”„‟…‧﹏﹑﹔·！？｡。+-/={(<["
)
_AFTER_TIGHT: Final = re.compile(f"([{re.escape(_TIGHT)}]) ")
_ENGLISH_CLITIC: Final = re.compile("' (re|m|s|t|ve|d|ll) ")
_DECIMAL: Final = re.compile(r"(\d\.) (\d)")


def prepare(text: str, rules: BasicRules) -> str:
    """Write every capital sigma as the small one that its place in the text asks for; all else stays.

    西格玛按其位置写成相应的小写；其余不变，长度不变。

    After this, no rule looks further than the word.
    """
    if not rules.lowercase or _SIGMA not in text:
        return text
    origins = [place for _, place in lowercase(_places(text))]
    small = dict(zip(origins, text.lower(), strict=True))
    return "".join(small[place] if sign == _SIGMA else sign for place, sign in enumerate(text))


def normalise(text: str, rules: BasicRules) -> list[Placed]:
    """Lower, decompose and drop nonspacing marks of a prepared text. 小写、分解、去重音。"""
    placed: Iterable[Placed] = _places(text)
    if rules.lowercase:
        placed = lowercase(placed)
    if rules.strip_accents:
        placed = [item for item in decompose(placed) if unicodedata.category(item[0]) != "Mn"]
    return list(placed)


def split(placed: Iterable[Placed], rules: BasicRules) -> Iterator[Word]:
    """Cut normalised characters into words. 切成词。"""
    run: list[Placed] = []
    for item in placed:
        character = item[0]
        alone = is_punctuation(character) or (rules.split_chinese and is_chinese(character))
        if not alone and is_removed(character):
            continue
        if alone or character.isspace():
            if run:
                yield word_of(run)
            run = []
        if alone:
            yield word_of([item])
        elif not character.isspace():
            run.append(item)
    if run:
        yield word_of(run)


def is_punctuation(character: str) -> bool:
    """Whether a character is a sign of ASCII or of a category P. 是否标点。"""
    return character in "$+<=>^`|~" or unicodedata.category(character).startswith("P")


def is_chinese(character: str) -> bool:
    """Whether a character is an ideograph. 是否汉字。"""
    code = ord(character)
    return code >= 0x3400 and any(first <= code <= last for first, last in _IDEOGRAPHS)


def is_removed(character: str) -> bool:
    """Whether a character vanishes: controls but tab and line ends, formats, U+FFFD. 是否被清除。"""
    if character in "\t\n\r":
        return False
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf")


def is_special(token: str) -> bool:
    """Whether a token looks like a special one: from ``[`` to ``]``. 是否形如特殊词元。"""
    return token.startswith("[") and token.endswith("]")


def pair_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each of two texts are kept in `room`.

    两段文本各保留多少词元。

    If the shorter one fits in half of the room, it stays whole; else the room is halved, and an odd token
    goes to the second.
    """
    if first + second <= room:
        return first, second
    shorter = min(first, second)
    if 2 * shorter > room:
        return room // 2, room - room // 2
    return (room - shorter, shorter) if first > second else (shorter, room - shorter)


def join(tokens: Iterable[str]) -> str:
    """A line of text of tokens; those from ``[`` to ``]`` are left out. 拼接词元为文本。"""
    text = ""
    for token in tokens:
        if not is_special(token):
            text = _appended(text, token)
    text = re.sub(" +", " ", text)
    text = _ENGLISH_CLITIC.sub(r"'\1 ", text)
    text = _AFTER_TIGHT.sub(r"\1", text)
    return _DECIMAL.sub(r"\1\2", text).strip()


def _appended(text: str, token: str) -> str:
    single = len(token) == 1
    if token.startswith("##"):
        return text + token[2:]
    if single and is_chinese(token):
        return text + token
    if single and is_punctuation(token):
        return text + token + " "
    if text and is_chinese(text[-1]):
        return text + token
    return f"{text} {token}"


def _places(text: str) -> Iterator[Placed]:
    return ((character, place) for place, character in enumerate(text))
