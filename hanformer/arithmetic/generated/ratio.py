"""Ratios: sharing by a ratio, comparing, map scales.

比例问题。
"""

from __future__ import annotations

from math import gcd
from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words, between, maybe_decimal

_SHARED: Final = Words(
    ("pile", "unit", "first", "second"),
    (
        ("图书", "本", "五年级", "六年级"),
        ("树苗", "棵", "甲班", "乙班"),
        ("苹果", "个", "大班", "小班"),
        ("零件", "个", "甲组", "乙组"),
        ("练习本", "本", "一班", "二班"),
    ),
)
_COMPARED: Final = Words(
    ("what", "first", "second", "unit"),
    (
        ("图书的数量", "甲书架", "乙书架", "本"),
        ("零件的数量", "师傅", "徒弟", "个"),
        ("学生的人数", "一班", "二班", "人"),
        ("邮票的数量", "哥哥", "弟弟", "张"),
        ("水果的质量", "甲筐", "乙筐", "千克"),
    ),
)


def _pair(rng: Random) -> tuple[int, int]:
    first, second = rng.randint(2, 12), rng.randint(2, 12)
    return (first, second) if gcd(first, second) == 1 else _pair(rng)


def _shares(rng: Random) -> Values:
    first, second = _pair(rng)
    return {"left": first, "right": second, "total": (first + second) * between(rng, (3, 30), (10, 90))}


def _one(rng: Random) -> Values:
    first, second = _pair(rng)
    return {"left": first, "right": second, "amount": first * between(rng, (3, 30), (10, 90))}


def _map(rng: Random) -> Values:
    return {"scale": rng.randint(1, 60) * 100000, "line": maybe_decimal(rng, 2, 30)}


SHARES: Final = Form(
    draw=_shares,
    words=(_SHARED,),
    stories=(
        "把{total}{unit}{pile}按{left}:{right}分给{first}和{second}，",
        "一批{pile}共{total}{unit}，按{left}:{right}的比分给{first}和{second}，",
        "{first}和{second}分一批{pile}，一共{total}{unit}，{first}与{second}分得的比是{left}:{right}，",
    ),
    held_out=("一批{pile}有{total}{unit}，{first}、{second}各得一部分，两部分之比恰为{left}:{right}，",),
    questions=(
        Question("{first}[分得|分到]多少{unit}？", "{total}/({left}+{right})*{left}"),
        Question("{second}[分得|分到]多少{unit}？", "{total}/({left}+{right})*{right}"),
    ),
)

ONE: Final = Form(
    draw=_one,
    words=(_COMPARED,),
    stories=(
        "{first}与{second}{what}比是{left}:{right}，{first}有{amount}{unit}，",
        "{first}有{amount}{unit}，{first}和{second}{what}的比是{left}:{right}，",
        "已知{first}和{second}{what}之比为{left}:{right}，其中{first}有{amount}{unit}，",
    ),
    held_out=("{first}拥有{amount}{unit}，这个数与{second}{what}之比是{left}:{right}，",),
    questions=(
        Question("{second}有多少{unit}？", "{amount}/{left}*{right}"),
        Question("{first}和{second}[一共|共]有多少{unit}？", "{amount}/{left}*({left}+{right})"),
    ),
)

MAP: Final = Form(
    draw=_map,
    words=(Words(("start", "goal"), (("甲地", "乙地"), ("A市", "B市"), ("县城", "省城"), ("东村", "西村"))),),
    stories=(
        "在一幅比例尺是1:{scale}的地图上，量得{start}到{goal}的距离是{line}厘米，",
        "一幅地图的比例尺为1:{scale}，图上{start}和{goal}相距{line}厘米，",
    ),
    held_out=("{who}在地图上测得{start}与{goal}之间长{line}厘米，这幅地图的比例尺标注为1:{scale}，",),
    questions=(
        Question("{start}到{goal}的实际距离是多少千米？", "{line}*{scale}/100000", "decimal"),
        Question("{start}到{goal}的实际距离是多少米？", "{line}*{scale}/100", "decimal"),
    ),
)

RATIO: Final = Kind("比例", "ratio", (SHARES, ONE, MAP))
