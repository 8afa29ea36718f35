"""Surplus and deficit: the same things shared out in two ways.

盈亏问题。
"""

from __future__ import annotations

from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words, between

_SHARED: Final = Words(
    ("host", "thing", "unit", "people", "each"),
    (
        ("老师", "苹果", "个", "小朋友", "人"),
        ("老师", "铅笔", "支", "同学", "人"),
        ("班长", "练习本", "本", "同学", "人"),
        ("奶奶", "糖果", "颗", "孩子", "人"),
        ("管理员", "桃子", "个", "猴子", "只"),
        ("阿姨", "饼干", "块", "小朋友", "人"),
        ("王老师", "图书", "本", "学生", "人"),
    ),
)


def _drawn(rng: Random, low: int, high: int) -> tuple[int, int, int, int]:
    """Sharers, the smaller share, the larger share, and the things over at the smaller one."""
    people = between(rng, (4, 20), (10, 60))
    small = rng.randint(2, 12)
    large = small + rng.randint(1, 4)
    return people, small, large, people * (large - small) * rng.randint(low, high) // 100


def _over_and_short(rng: Random) -> Values:
    people, small, large, over = _drawn(rng, 5, 95)
    return {"small": small, "large": large, "over": over, "short": people * (large - small) - over}


def _over_twice(rng: Random) -> Values:
    people, small, large, over = _drawn(rng, 105, 180)
    return {"small": small, "large": large, "over": over, "less": over - people * (large - small)}


def _short_twice(rng: Random) -> Values:
    people, small, large, short = _drawn(rng, 5, 80)
    return {"small": small, "large": large, "short": short, "more": short + people * (large - small)}


def _questions(people: str, rest: str) -> tuple[Question, ...]:
    return (
        Question("{people}[有|共有][多少|几]{each}？", people),
        Question("{thing}[有|共有]多少{unit}？", f"{people}*{{small}}{rest}"),
    )


OVER_AND_SHORT: Final = Form(
    draw=_over_and_short,
    words=(_SHARED,),
    stories=(
        "{host}把一些{thing}分给{people}，[如果|若]每{each}分{small}{unit}，[就多|则多]{over}{unit}；"
        "[如果|若]每{each}分{large}{unit}，[就少|则少]{short}{unit}。",
        "{people}分{thing}，每{each}{small}{unit}多{over}{unit}，每{each}{large}{unit}少{short}{unit}。",
        "一批{thing}分给{people}，每{each}{large}{unit}还差{short}{unit}，每{each}{small}{unit}就余{over}{unit}。",
        "{host}给{people}发{thing}。每{each}发{small}{unit}，还剩{over}{unit}；每{each}发{large}{unit}，缺{short}{unit}。",
    ),
    held_out=(
        "{host}拿来一些{thing}分给{people}。要想每{each}拿到{large}{unit}，还需要再添{short}{unit}；"
        "要是每{each}只拿{small}{unit}，最后会余下{over}{unit}。",
    ),
    questions=_questions("({over}+{short})/({large}-{small})", "+{over}"),
)

OVER_TWICE: Final = Form(
    draw=_over_twice,
    words=(_SHARED,),
    stories=(
        "{host}把一些{thing}分给{people}，如果每{each}分{small}{unit}，就多{over}{unit}；"
        "如果每{each}分{large}{unit}，仍多{less}{unit}。",
        "{people}分{thing}，每{each}{small}{unit}多{over}{unit}，每{each}{large}{unit}也多{less}{unit}。",
        "{host}给{people}发{thing}，每{each}发{large}{unit}还剩{less}{unit}，每{each}发{small}{unit}则剩{over}{unit}。",
    ),
    held_out=(
        "一些{thing}由{people}来分。每{each}拿{small}{unit}时余下{over}{unit}，每{each}拿{large}{unit}时还能余下{less}{unit}。",
    ),
    questions=_questions("({over}-{less})/({large}-{small})", "+{over}"),
)

SHORT_TWICE: Final = Form(
    draw=_short_twice,
    words=(_SHARED,),
    stories=(
        "{host}把一些{thing}分给{people}，如果每{each}分{small}{unit}，就少{short}{unit}；"
        "如果每{each}分{large}{unit}，就少{more}{unit}。",
        "{people}分{thing}，每{each}{small}{unit}缺{short}{unit}，每{each}{large}{unit}缺{more}{unit}。",
        "{host}给{people}发{thing}，每{each}发{large}{unit}还差{more}{unit}，每{each}发{small}{unit}也差{short}{unit}。",
    ),
    held_out=(
        "一些{thing}由{people}来分，怎么分都不够：每{each}拿{small}{unit}时缺少{short}{unit}，"
        "每{each}拿{large}{unit}时缺少{more}{unit}。",
    ),
    questions=_questions("({more}-{short})/({large}-{small})", "-{short}"),
)

SURPLUS: Final = Kind(
    "盈亏",
    "surplus and deficit",
    (OVER_AND_SHORT, OVER_TWICE, SHORT_TWICE),
    asides=("这些{thing}是{noise}天前买来的。", "{host}昨天也分过一次{thing}。"),
)
