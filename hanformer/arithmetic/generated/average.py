"""Averages.

平均数问题。
"""

from __future__ import annotations

from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words, between, maybe_decimal

_SCORES: Final = Words(
    ("things", "each", "unit"),
    (
        ("数学测验", "次", "分"),
        ("语文测验", "次", "分"),
        ("跳绳比赛", "轮", "个"),
        ("踢毽子练习", "组", "个"),
        ("英语听写", "次", "分"),
    ),
)


def _three(rng: Random) -> Values:
    low = rng.randint(60, 80)
    return {"a": low + rng.randint(0, 19), "b": low + rng.randint(0, 19), "c": low + rng.randint(0, 19)}


def _four(rng: Random) -> Values:
    return {**_three(rng), "d": between(rng, (10, 60), (60, 99))}


def _one_more(rng: Random) -> Values:
    return {"mean": rng.randint(60, 95), "count": rng.randint(2, 12), "next": rng.randint(60, 100)}


def _goal(rng: Random) -> Values:
    count, rise = rng.randint(2, 6), rng.randint(1, 3)
    mean = rng.randint(70, 98 - rise * (count + 1))
    return {"mean": mean, "count": count, "goal": mean + rise}


def _groups(rng: Random) -> Values:
    return {
        "boys": rng.randint(5, 40),
        "high": maybe_decimal(rng, 30, 99),
        "girls": rng.randint(5, 40),
        "low": maybe_decimal(rng, 30, 99),
    }


THREE: Final = Form(
    draw=_three,
    words=(_SCORES,),
    stories=(
        "{who}在{things}中前三{each}的成绩分别是{a}{unit}、{b}{unit}和{c}{unit}，",
        "{who}参加{things}，三{each}分别得了{a}{unit}、{b}{unit}、{c}{unit}，",
    ),
    held_out=("{who}记录了自己三{each}{things}的成绩：{a}{unit}，{b}{unit}，{c}{unit}，",),
    questions=(
        Question("{who}平均每{each}[得多少{unit}|的成绩是多少{unit}]？", "({a}+{b}+{c})/3", "decimal"),
    ),
)

FOUR: Final = Form(
    draw=_four,
    words=(Words(("goods", "unit"), (("水果", "千克"), ("大米", "袋"), ("图书", "本"), ("牛奶", "箱"))),),
    stories=(
        "商店四天卖出的{goods}分别是{a}{unit}、{b}{unit}、{c}{unit}、{d}{unit}，",
        "四天里商店卖出{goods}的数量依次为{a}{unit}、{b}{unit}、{c}{unit}和{d}{unit}，",
    ),
    held_out=("某商店记下四天的{goods}销量：{a}{unit}，{b}{unit}，{c}{unit}，{d}{unit}，",),
    questions=(Question("平均每天卖出多少{unit}[{goods}|]？", "({a}+{b}+{c}+{d})/4"),),
)

ONE_MORE: Final = Form(
    draw=_one_more,
    words=(_SCORES,),
    stories=(
        "{who}前{count}{each}{things}的平均成绩是{mean}{unit}，又参加一{each}，得了{next}{unit}，",
        "{who}参加了{count}{each}{things}，平均每{each}{mean}{unit}，接下来一{each}得{next}{unit}，",
    ),
    held_out=(
        "{who}已有{count}{each}{things}的成绩，平均是{mean}{unit}，再加上最新一{each}的{next}{unit}，",
    ),
    questions=(
        Question("[现在|这时]平均每{each}多少{unit}？", "({mean}*{count}+{next})/({count}+1)", "decimal"),
    ),
)

GOAL: Final = Form(
    draw=_goal,
    words=(_SCORES,),
    stories=(
        "{who}前{count}{each}{things}的平均成绩是{mean}{unit}，想通过再参加一{each}把平均成绩提高到{goal}{unit}，",
        "{who}参加了{count}{each}{things}，平均每{each}{mean}{unit}，要使再参加一{each}后平均成绩达到{goal}{unit}，",
    ),
    held_out=(
        "{who}的目标是平均每{each}{goal}{unit}，而前{count}{each}{things}平均只有{mean}{unit}，机会只剩一{each}，",
    ),
    questions=(Question("[这|下]一{each}[至少|]要得多少{unit}？", "{goal}*({count}+1)-{mean}*{count}"),),
)

GROUPS: Final = Form(
    draw=_groups,
    words=(
        Words(("do", "unit"), (("测验得", "分"), ("跳绳跳", "下"), ("投沙包得", "分"), ("踢毽子踢", "个"))),
    ),
    stories=(
        "某班男生{boys}人，平均每人{do}{high}{unit}；女生{girls}人，平均每人{do}{low}{unit}，",
        "班里有{boys}名男生和{girls}名女生，男生平均每人{do}{high}{unit}，女生平均每人{do}{low}{unit}，",
    ),
    held_out=("一个班里，{girls}名女生平均每人{do}{low}{unit}，另外{boys}名男生平均每人{do}{high}{unit}，",),
    questions=(
        Question("全班平均每人{do}多少{unit}？", "({boys}*{high}+{girls}*{low})/({boys}+{girls})", "decimal"),
    ),
)

AVERAGE: Final = Kind(
    "平均数", "averages", (THREE, FOUR, ONE_MORE, GOAL, GROUPS), asides=("这是第{noise}周的事。",)
)
