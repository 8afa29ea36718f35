"""Chinese numerals: values, and words that only look like numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.arithmetic.numerals import chinese_number, find_chinese_numbers
from tests.arithmetic.trees import NOISE

DIGITS = "零一二三四五六七八九"


def _spelled(value: int) -> str:
    """The usual writing of 1 to 9999, built from the other side."""
    text = ""
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // unit % 10
        if digit:
            text += DIGITS[digit] + name
        elif text and not text.endswith("零") and value % unit:
            text += "零"
    return text


@given(st.integers(1, 9999))
def test_whole_numbers(value: int) -> None:
    assert chinese_number(_spelled(value)) == value
    assert chinese_number(_spelled(value) + "万") == value * 10**4


@pytest.mark.parametrize(
    ("text", "value"),
    [("十二", 12), ("两", 2), ("二十", 20), ("一亿零三", 10**8 + 3), ("二零二四", 2024), ("三个", None)],
)
def test_other_writings(text: str, value: int | None) -> None:
    assert chinese_number(text) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("两千克苹果和三千米路", [("两", "2"), ("三", "3")]),
        ("三千元", [("三千", "3000")]),
        ("三分之一的百分之二十五", [("三分之一", "1/3"), ("百分之二十五", "1/4")]),
        ("百分之20，3分之1", [("百分之20", "1/5"), ("3分之1", "1/3")]),
        ("一半，半天", [("一半", "1/2"), ("半", "1/2")]),
        ("一共一个，半径，半圆", []),
        ("第三天，星期四，周五，三角形，五边形，六年级，三月", []),
        ("十分高兴的十分钟", [("十", "10")]),
        ("几分之几，百分之几，百货，万一，零分之一", []),
    ],
)
def test_numerals_of_a_text(text: str, found: list[tuple[str, str]]) -> None:
    numbers = [(text[start:end], str(value)) for start, end, value, _ in find_chinese_numbers(text)]
    assert numbers == found


@given(st.text(NOISE, max_size=25))
def test_any_text(text: str) -> None:
    assert all(
        text[start:end] and isinstance(value, Fraction) for start, end, value, _ in find_chinese_numbers(text)
    )
