"""Work: shares of a job a day, and amounts a day.

工程问题。
"""

from __future__ import annotations

from math import lcm
from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words, between

_JOB: Final = Words(
    ("job", "first", "second", "days"),
    (
        ("一项工程", "甲队", "乙队", "天"),
        ("一项修路工程", "甲队", "乙队", "天"),
        ("一批零件", "师傅", "徒弟", "小时"),
        ("一项打字任务", "王阿姨", "李阿姨", "小时"),
        ("一项生产任务", "甲组", "乙组", "天"),
        ("一项挖渠工程", "第一队", "第二队", "天"),
    ),
)
_AMOUNT: Final = Words(
    ("job", "do", "unit"),
    (
        ("零件", "加工", "个"),
        ("公路", "修", "米"),
        ("课桌", "生产", "张"),
        ("水渠", "挖", "米"),
        ("衣服", "缝制", "件"),
        ("玩具", "做", "个"),
    ),
)


def _alone(rng: Random) -> Values:
    return {"quick": rng.randint(3, 24), "slow": rng.randint(4, 36)}


def _part(rng: Random) -> Values:
    return {**_alone(rng), "done": rng.randint(2, 20)}


def _together(rng: Random) -> Values:
    together = rng.randint(2, 15)
    return {"together": together, "quick": together + rng.randint(1, 20)}


def _pace(rng: Random) -> Values:
    actual = rng.randint(3, 20)
    days = actual + rng.randint(1, 10)
    total = lcm(actual, days) * between(rng, (1, 12), (5, 40))
    return {"total": total, "days": days, "more": total // actual - total // days}


def _rest(rng: Random) -> Values:
    pace, days, left = between(rng, (10, 60), (50, 300)), rng.randint(3, 15), rng.randint(3, 20)
    return {"total": pace * (days + left), "pace": pace, "days": days}


TOGETHER: Final = Form(
    draw=_alone,
    words=(_JOB,),
    stories=(
        "{job}，{first}单独做{quick}{days}完成，{second}单独做{slow}{days}完成，",
        "{job}，由{first}独做要{quick}{days}，由{second}独做要{slow}{days}，",
        "完成{job}，{second}单独做需要{slow}{days}，{first}单独做需要{quick}{days}，",
    ),
    held_out=("只靠{first}做{job}要花{quick}{days}，{second}自己做同样的活要花{slow}{days}，",),
    questions=(
        Question(
            "[两者合做|如果合做|如果一起做]，[多少{days}|几{days}]可以完成？",
            "1/(1/{quick}+1/{slow})",
            "fraction",
        ),
        Question("合做一{days}可以完成全部的几分之几？", "1/{quick}+1/{slow}", "fraction"),
    ),
)

PART: Final = Form(
    draw=_part,
    words=(_JOB,),
    stories=(
        "{job}，{first}单独做{quick}{days}完成，{second}单独做{slow}{days}完成。{first}先做了{done}{days}，",
        "{job}，{first}独做要{quick}{days}，{second}独做要{slow}{days}，现在由{first}先做{done}{days}，",
    ),
    held_out=(
        "单独完成{job}，{first}要{quick}{days}，{second}要{slow}{days}。{first}做满{done}{days}后停工，",
    ),
    questions=(
        Question(
            "[剩下的|余下的]由{second}做，还要[多少|几]{days}？", "(1-{done}/{quick})*{slow}", "fraction"
        ),
        Question("[还剩|剩下]几分之几没有完成？", "1-{done}/{quick}", "fraction"),
    ),
)

ALONE: Final = Form(
    draw=_together,
    words=(_JOB,),
    stories=(
        "{job}，{first}和{second}合做{together}{days}完成，{first}单独做{quick}{days}完成，",
        "{job}，{first}独做要{quick}{days}，{first}、{second}合做只要{together}{days}，",
    ),
    held_out=(
        "{first}与{second}一起做{job}，{together}{days}做完；要是只有{first}来做，得花{quick}{days}，",
    ),
    questions=(
        Question("{second}单独做要[多少|几]{days}[完成|]？", "1/(1/{together}-1/{quick})", "fraction"),
    ),
)

PACE: Final = Form(
    draw=_pace,
    words=(_AMOUNT,),
    stories=(
        "计划{do}{total}{unit}{job}，{days}天完成，实际每天比计划多{do}{more}{unit}，",
        "工人们要{do}{total}{unit}{job}，原计划用{days}天，实际每天多{do}{more}{unit}，",
    ),
    held_out=("{total}{unit}{job}按计划{days}天{do}完，开工后每天比计划多{do}{more}{unit}，",),
    questions=(
        Question("实际每天{do}多少{unit}？", "{total}/{days}+{more}"),
        Question("实际用了[多少|几]天？", "{total}/({total}/{days}+{more})"),
    ),
)

REST: Final = Form(
    draw=_rest,
    words=(_AMOUNT,),
    stories=(
        "要{do}{total}{unit}{job}，每天{do}{pace}{unit}，已经{do}了{days}天，",
        "工人们{do}{total}{unit}{job}，前{days}天每天{do}{pace}{unit}，",
    ),
    held_out=("一共有{total}{unit}{job}要{do}，开工{days}天来每天都{do}{pace}{unit}，",),
    questions=(
        Question("还剩多少{unit}[没有{do}|没{do}]？", "{total}-{pace}*{days}"),
        Question(
            "[照这样的速度|照这样计算]，[还要|还需]多少天才能{do}完？", "({total}-{pace}*{days})/{pace}"
        ),
    ),
)

WORK: Final = Kind(
    "工程",
    "work",
    (TOGETHER, PART, ALONE, PACE, REST),
    asides=("[工地上|车间里]有{noise}名工人。", "大家[干劲十足|都很认真]。"),
)
