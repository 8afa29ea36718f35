"""Planting trees: points on a line or a circle, and the gaps between them.

植树问题。
"""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import (
    Form,
    Kind,
    Question,
    Values,
    Words,
    between,
    exact,
    maybe_decimal,
    shown,
)

_ROAD: Final = Words(
    ("road", "act", "thing", "unit"),
    (
        ("一条小路", "种", "树", "棵"),
        ("一条公路", "安装", "路灯", "盏"),
        ("一条大道", "插", "彩旗", "面"),
        ("学校门前的马路", "栽", "柳树", "棵"),
        ("河堤", "栽", "桃树", "棵"),
        ("一条街道", "摆", "花盆", "个"),
    ),
)
_LOOP: Final = Words(
    ("loop", "act", "thing", "unit"),
    (
        ("一个圆形花坛", "摆", "花盆", "个"),
        ("一个圆形池塘", "种", "柳树", "棵"),
        ("一个湖", "栽", "杨树", "棵"),
        ("环形跑道", "插", "彩旗", "面"),
        ("一个公园", "安装", "路灯", "盏"),
    ),
)


def _length(rng: Random) -> Values:
    gap = maybe_decimal(rng, 2, 25)
    gaps = between(rng, (5, 30), (20, 120))
    return {"gap": gap, "length": shown(exact(gap) * gaps)}


def _count(rng: Random) -> Values:
    return {"gap": maybe_decimal(rng, 2, 25), "count": between(rng, (6, 30), (20, 120))}


def _even(rng: Random) -> Values:
    gap = rng.randint(3, 20)
    count = between(rng, (6, 30), (20, 80))
    return {"length": int(Fraction(gap) * (count - 1)), "count": count}


BOTH_ENDS: Final = Form(
    draw=_length,
    words=(_ROAD,),
    stories=(
        "在{road}的一侧{act}{thing}，路长{length}米，每隔{gap}米{act}一{unit}，两端都{act}，",
        "{road}长{length}米，在它的一边每隔{gap}米{act}一{unit}{thing}，[两头都{act}|两端都要{act}]，",
    ),
    held_out=(
        "{road}全长{length}米，从头到尾在一边{act}{thing}，相邻两{unit}的距离是{gap}米，起点和终点各有一{unit}，",
    ),
    questions=(Question("[一共|共][需要|要][多少|几]{unit}{thing}？", "{length}/{gap}+1"),),
)

NO_END: Final = Form(
    draw=_length,
    words=(_ROAD,),
    stories=(
        "在{road}的一侧{act}{thing}，路长{length}米，每隔{gap}米{act}一{unit}，两端都不{act}，",
        "{road}长{length}米，在它的一边每隔{gap}米{act}一{unit}{thing}，[两头都不{act}|两端不用{act}]，",
    ),
    held_out=("{road}全长{length}米，在一边{act}{thing}，相邻两{unit}的距离是{gap}米，起点和终点处都空着，",),
    questions=(Question("[一共|共][需要|要][多少|几]{unit}{thing}？", "{length}/{gap}-1"),),
)

BOTH_SIDES: Final = Form(
    draw=_length,
    words=(_ROAD,),
    stories=(
        "在{road}的两侧{act}{thing}，路长{length}米，每隔{gap}米{act}一{unit}，两端都{act}，",
        "{road}长{length}米，[在它的两边|在路的两旁]都每隔{gap}米{act}一{unit}{thing}，两头都{act}，",
    ),
    held_out=("{road}全长{length}米，左右两侧都要{act}{thing}，每侧从起点开始每{gap}米一{unit}，直到终点，",),
    questions=(Question("[一共|共][需要|要][多少|几]{unit}{thing}？", "({length}/{gap}+1)*2"),),
)

LOOP: Final = Form(
    draw=_length,
    words=(_LOOP,),
    stories=(
        "{loop}的周长是{length}米，沿着它的一周每隔{gap}米{act}一{unit}{thing}，",
        "在{loop}的四周{act}{thing}，一周长{length}米，每隔{gap}米{act}一{unit}，",
    ),
    held_out=("绕{loop}走一圈是{length}米，如果每{gap}米处{act}一{unit}{thing}，首尾相接，",),
    questions=(Question("[一共|共][需要|要][多少|几]{unit}{thing}？", "{length}/{gap}"),),
)

ROAD_LENGTH: Final = Form(
    draw=_count,
    words=(_ROAD,),
    stories=(
        "在{road}的一侧每隔{gap}米{act}一{unit}{thing}，两端都{act}，一共{act}了{count}{unit}，",
        "{road}的一边从头到尾共{act}了{count}{unit}{thing}，每相邻两{unit}之间相距{gap}米，",
    ),
    held_out=("沿{road}一侧{act}好了{count}{unit}{thing}，首尾都有，相邻两{unit}间隔{gap}米，",),
    questions=(
        Question(
            "[从第一{unit}到最后一{unit}|第一{unit}到最后一{unit}][的距离是|相距]多少米？",
            "({count}-1)*{gap}",
            "decimal",
        ),
    ),
)

GAP: Final = Form(
    draw=_even,
    words=(_ROAD,),
    stories=(
        "在{road}的一侧{act}{thing}，路长{length}米，两端都{act}，[一共|共]{act}了{count}{unit}，",
        "{road}长{length}米，在它的一边等距离地{act}了{count}{unit}{thing}，两头都{act}，",
    ),
    held_out=("{road}全长{length}米，{count}{unit}{thing}均匀地分布在它的一侧，起点和终点各有一{unit}，",),
    questions=(Question("[相邻两{unit}之间相距|每相邻两{unit}的间隔是]多少米？", "{length}/({count}-1)"),),
)

TREES: Final = Kind(
    "植树",
    "planting trees",
    (BOTH_ENDS, NO_END, BOTH_SIDES, LOOP, ROAD_LENGTH, GAP),
    asides=("[参加劳动的|来帮忙的]有{noise}名同学。", "每{unit}{thing}的价钱是{noise}元。"),
)
