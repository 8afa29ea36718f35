"""Cattle on a growing meadow, and the same with pumps at a spring.

牛吃草问题。
"""

from __future__ import annotations

from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words

# Stocks with many divisors, so that several herds finish in whole days.
_STOCKS: Final = (
    60,
    72,
    80,
    90,
    96,
    100,
    120,
    144,
    150,
    160,
    168,
    180,
    200,
    210,
    216,
    240,
    252,
    280,
    300,
    336,
    360,
)
_GROWTH: Final = "({less}*{long}-{more}*{short})/({long}-{short})"


def _meadow(rng: Random) -> Values:
    stock = rng.choice(_STOCKS)
    days = [day for day in range(3, 41) if stock % day == 0]
    short, long, asked = rng.sample(days, 3)
    short, long = min(short, long), max(short, long)
    growth = rng.randint(2, 20)
    return {
        "more": stock // short + growth,
        "short": short,
        "less": stock // long + growth,
        "long": long,
        "herd": stock // asked + growth,
        "days": asked,
    }


def _questions(time: str, herd: str, keep: str) -> tuple[Question, ...]:
    stock = f"({{more}}-{_GROWTH})*{{short}}"
    return (
        Question(time, f"{stock}/({{herd}}-{_GROWTH})"),
        Question(herd, f"{stock}/{{days}}+{_GROWTH}"),
        Question(keep, _GROWTH),
    )


MEADOW: Final = Form(
    draw=_meadow,
    words=(
        Words(
            ("field", "beast", "unit"),
            (
                ("一片牧场", "牛", "头"),
                ("一块草地", "羊", "只"),
                ("一片草场", "马", "匹"),
                ("一片草原", "牛", "头"),
            ),
        ),
    ),
    stories=(
        "{field}上的草每天匀速生长，可供{more}{unit}{beast}吃{short}天，或供{less}{unit}{beast}吃{long}天，",
        "{field}的草每天长得一样快，{more}{unit}{beast}{short}天可以吃完，{less}{unit}{beast}{long}天可以吃完，",
        "{field}，草匀速生长。如果放养{less}{unit}{beast}，{long}天把草吃完；如果放养{more}{unit}{beast}，{short}天把草吃完，",
        "有{field}，草每天都在均匀地生长，这片草够{more}{unit}{beast}吃{short}天，够{less}{unit}{beast}吃{long}天，",
    ),
    held_out=(
        "{field}上长满了草，而且每天新长出的草一样多。{less}{unit}{beast}要{long}天才能把草吃光，"
        "换成{more}{unit}{beast}就只要{short}天，",
    ),
    questions=_questions(
        "[那么|]{herd}{unit}{beast}[多少天|几天]可以吃完？",
        "[如果|要想]{days}天吃完，[需要|应有][多少|几]{unit}{beast}？",
        "要使草永远吃不完，最多放养[多少|几]{unit}{beast}？",
    ),
)

SPRING: Final = Form(
    draw=_meadow,
    words=(Words(("pool",), (("一口井",), ("一个水池",), ("泉眼旁的一口水塘",), ("一艘船的底舱",))),),
    stories=(
        "{pool}不断有水匀速流入，用{more}台抽水机{short}小时可以抽完，用{less}台抽水机{long}小时可以抽完，",
        "{pool}已有一些水，水还在匀速流进来，{less}台抽水机{long}小时抽完，{more}台抽水机{short}小时抽完，",
        "水匀速流入{pool}，抽干里面的水，{more}台抽水机要用{short}小时，{less}台抽水机要用{long}小时，",
    ),
    held_out=(
        "{pool}一边进水一边往外抽。开{less}台抽水机，{long}小时见底；开{more}台抽水机，{short}小时见底，进水速度不变，",
    ),
    questions=_questions(
        "[那么|]用{herd}台抽水机[多少|几]小时可以抽完？",
        "[如果|要想]{days}小时抽完，[需要|要用][多少|几]台抽水机？",
        "要使水位保持不变，要用[多少|几]台抽水机？",
    ),
)

CATTLE: Final = Kind(
    "牛吃草", "cattle on a meadow", (MEADOW, SPRING), asides=("附近的村子里有{noise}户人家。",)
)
