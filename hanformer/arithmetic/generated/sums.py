"""Two numbers by their sum, difference and multiple.

和差问题、和倍问题、差倍问题。
"""

from __future__ import annotations

from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words, between

_THINGS: Final = Words(
    ("first", "second", "unit"),
    (
        ("桃树", "梨树", "棵"),
        ("故事书", "科技书", "本"),
        ("红花", "黄花", "朵"),
        ("白兔", "灰兔", "只"),
        ("足球", "篮球", "个"),
        ("甲书架的书", "乙书架的书", "本"),
        ("五年级种的树", "四年级种的树", "棵"),
        ("大筐里的苹果", "小筐里的苹果", "个"),
        ("哥哥的邮票", "弟弟的邮票", "张"),
        ("第一仓库的粮食", "第二仓库的粮食", "吨"),
    ),
)


def _sum_difference(rng: Random) -> Values:
    small, gap = between(rng, (5, 60), (30, 300)), between(rng, (2, 40), (5, 90))
    return {"sum": 2 * small + gap, "gap": gap}


def _sum_multiple(rng: Random) -> Values:
    small, times = between(rng, (4, 40), (20, 150)), rng.randint(2, 9)
    return {"sum": small * (times + 1), "times": times}


def _gap_multiple(rng: Random) -> Values:
    small, times = between(rng, (4, 40), (20, 150)), rng.randint(2, 9)
    return {"gap": small * (times - 1), "times": times}


def _questions(first: str, second: str) -> tuple[Question, ...]:
    return (Question("{first}有多少{unit}？", first), Question("{second}有多少{unit}？", second))


SUM_DIFFERENCE: Final = Form(
    draw=_sum_difference,
    words=(_THINGS,),
    stories=(
        "{first}和{second}[一共|共]有{sum}{unit}，{first}比{second}多{gap}{unit}，",
        "{first}比{second}多{gap}{unit}，两者[一共|共]有{sum}{unit}，",
        "{first}和{second}共有{sum}{unit}，{second}比{first}少{gap}{unit}，",
        "已知{first}、{second}合起来有{sum}{unit}，又知{first}比{second}多{gap}{unit}，",
        "{second}比{first}少{gap}{unit}，{first}与{second}总共有{sum}{unit}，",
        "{first}与{second}相差{gap}{unit}，{first}多一些，两者共有{sum}{unit}，",
    ),
    held_out=(
        "如果{first}减少{gap}{unit}就和{second}同样多，现在两者合计有{sum}{unit}，",
        "{first}、{second}加在一起有{sum}{unit}，前者比后者多出{gap}{unit}，",
    ),
    questions=_questions("({sum}+{gap})/2", "({sum}-{gap})/2"),
)

SUM_MULTIPLE: Final = Form(
    draw=_sum_multiple,
    words=(_THINGS,),
    stories=(
        "{first}和{second}[一共|共]有{sum}{unit}，{first}是{second}的{times}倍，",
        "{first}的数量是{second}的{times}倍，两者[一共|共]有{sum}{unit}，",
        "已知{first}、{second}合起来有{sum}{unit}，又知{first}是{second}的{times}倍，",
        "{first}与{second}总共有{sum}{unit}，其中{first}正好是{second}的{times}倍，",
        "{first}和{second}总数是{sum}{unit}，{first}是{second}的{times}倍，",
        "{first}是{second}的{times}倍，{first}、{second}总共有{sum}{unit}，",
    ),
    held_out=(
        "{first}、{second}加在一起有{sum}{unit}，前者恰好为后者的{times}倍，",
        "把{second}的数量扩大到{times}倍就等于{first}的数量，两者合计有{sum}{unit}，",
    ),
    questions=_questions("{sum}/({times}+1)*{times}", "{sum}/({times}+1)"),
)

GAP_MULTIPLE: Final = Form(
    draw=_gap_multiple,
    words=(_THINGS,),
    stories=(
        "{first}比{second}多{gap}{unit}，{first}是{second}的{times}倍，",
        "{first}的数量是{second}的{times}倍，{first}比{second}多{gap}{unit}，",
        "已知{second}比{first}少{gap}{unit}，又知{first}是{second}的{times}倍，",
        "{first}正好是{second}的{times}倍，{second}比{first}少{gap}{unit}，",
        "{first}是{second}的{times}倍，两者相差{gap}{unit}，",
        "{first}与{second}相差{gap}{unit}，{first}是{second}的{times}倍，",
    ),
    held_out=(
        "{first}恰好为{second}的{times}倍，前者比后者多出{gap}{unit}，",
        "把{second}的数量扩大到{times}倍就等于{first}的数量，而{first}减少{gap}{unit}就和{second}同样多，",
    ),
    questions=_questions("{gap}/({times}-1)*{times}", "{gap}/({times}-1)"),
)

SUM_AND_DIFFERENCE: Final = Kind("和差", "sum and difference", (SUM_DIFFERENCE,))
SUM_AND_MULTIPLE: Final = Kind("和倍", "sum and multiple", (SUM_MULTIPLE,))
DIFFERENCE_AND_MULTIPLE: Final = Kind("差倍", "difference and multiple", (GAP_MULTIPLE,))
