"""Chinese numerals in a text: 两, 十二, 三百零五, 三分之一, 百分之二十, 一半.

文本中的汉字数词。
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

_DIGITS: Final = {"〇": 0, "两": 2} | {digit: value for value, digit in enumerate("零一二三四五六七八九")}
_UNITS: Final = {"十": 10, "百": 100, "千": 1000}
_LARGE_UNITS: Final = {"万": 10**4, "亿": 10**8}

_CHARACTERS: Final = "零〇一二两三四五六七八九十百千万亿"
# The 千 of 千米, 千克 and 千瓦 belongs to the unit. A numeral is taken whole or not at all (++).
_WHOLE: Final = rf"(?:(?!千[米克瓦])[{_CHARACTERS}])++"
_PATTERN: Final = re.compile(
    rf"百分之(?P<percent>{_WHOLE}|[0-9]+(?:\.[0-9]+)?)"
    rf"|(?P<bottom>{_WHOLE}|[0-9]+)分之(?P<top>{_WHOLE}|[0-9]+)"
    r"|(?P<half>一半|半(?![径圆球]))"
    # Not numbers of the problem: 第三, 星期三, 周五, 三角形, 五边形, 六年级, 三月, and 十分 (very).
    rf"|(?<![第周期{_CHARACTERS}])(?P<whole>{_WHOLE})(?!角|边形|年级|月|分(?!钟))"
)


def chinese_number(text: str) -> int | None:
    """The value of a whole number: 两 is 2, 十二 is 12, 三百零五 is 305, 二零二四 is 2024; else None.

    汉字整数的值；不是整数时返回 None。
    """
    if text and all(character in _DIGITS for character in text):
        return int("".join(str(_DIGITS[character]) for character in text))
    total = section = digit = 0
    for character in text:
        if character in _DIGITS:
            digit = _DIGITS[character]
        elif character in _UNITS:
            section += (digit or 1) * _UNITS[character]
            digit = 0
        elif character in _LARGE_UNITS:
            total = (total + section + digit) * _LARGE_UNITS[character]
            section = digit = 0
        else:
            return None
    return total + section + digit


def find_chinese_numbers(text: str) -> Iterator[tuple[int, int, Fraction, str]]:
    """Start, end, value and kind of the Chinese numerals of a text; a plain 一 is an article and left out.

    依次给出汉字数词的起止、值与类别；单独的“一”不算数。
    """
    for match in _PATTERN.finditer(text):
        value, kind = _reading(match)
        if value is not None:
            yield match.start(), match.end(), value, kind


def _reading(match: re.Match[str]) -> tuple[Fraction | None, str]:
    if match["half"]:
        return Fraction(1, 2), "fraction"
    if match["percent"]:
        return _value(match["percent"]) / 100, "percent"
    if match["bottom"]:
        bottom = _value(match["bottom"])
        return (_value(match["top"]) / bottom if bottom else None), "fraction"
    whole = match["whole"]
    # The article 一 (一个, 一共) and what begins with a unit (百货, 万一) are words, not numbers.
    counted = whole != "一" and whole[0] not in "百千万亿"
    return (_value(whole) if counted else None), "integer"


def _value(text: str) -> Fraction:
    return Fraction(text) if text[0].isascii() else Fraction(chinese_number(text) or 0)
