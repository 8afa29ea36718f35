"""Ages: the difference stays, the multiple changes.

年龄问题。
"""

from __future__ import annotations

from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words

_ELDER: Final = Words(("elder",), (("爸爸",), ("妈妈",), ("叔叔",), ("舅舅",), ("姑姑",), ("老师",)))


def _multiple(rng: Random) -> Values:
    times = rng.randint(2, 6)
    then = rng.randint(3, 16)
    young = rng.randint(3, 18)
    return {"young": young, "old": young + then * (times - 1), "times": times}


def _later(rng: Random) -> Values:
    return {"young": rng.randint(4, 16), "gap": rng.randint(20, 35), "years": rng.randint(2, 20)}


def _sum(rng: Random) -> Values:
    times, young = rng.randint(2, 7), rng.randint(5, 18)
    if not (24 <= young * times <= 60 and young * (times - 1) >= 18):
        return _sum(rng)
    return {"times": times, "sum": young * (times + 1)}


def _future(rng: Random) -> Values:
    values = _multiple(rng)
    return values if _adult(values) and _then(values) > int(values["young"]) else _future(rng)


def _past(rng: Random) -> Values:
    values = _multiple(rng)
    return values if _adult(values) and _then(values) < int(values["young"]) else _past(rng)


def _adult(values: Values) -> bool:
    return 24 <= int(values["old"]) <= 60 and int(values["old"]) - int(values["young"]) >= 18


def _then(values: Values) -> int:
    """The younger one's age when the elder's is `times` as much."""
    return (int(values["old"]) - int(values["young"])) // (int(values["times"]) - 1)


FUTURE: Final = Form(
    draw=_future,
    words=(_ELDER,),
    stories=(
        "{elder}今年{old}岁，{who}今年{young}岁，",
        "今年{who}{young}岁，{elder}{old}岁，[请问|问]",
        "{who}[现在|今年]{young}岁，{who}的{elder}{old}岁，",
    ),
    held_out=("{who}刚过完{young}岁生日，{elder}正好{old}岁，想一想，",),
    questions=(
        Question(
            "[再过多少年|再过几年|多少年后|几年后]{elder}的年龄[是|正好是]{who}的{times}倍？",
            "({old}-{young})/({times}-1)-{young}",
        ),
    ),
)

PAST: Final = Form(
    draw=_past,
    words=(_ELDER,),
    stories=(
        "{elder}今年{old}岁，{who}今年{young}岁，",
        "今年{who}{young}岁，{elder}{old}岁，[请问|问]",
        "{who}[现在|今年]{young}岁，{who}的{elder}{old}岁，",
    ),
    held_out=("{who}刚过完{young}岁生日，{elder}正好{old}岁，想一想，",),
    questions=(
        Question(
            "[多少年前|几年前|多少年以前]{elder}的年龄[是|正好是]{who}的{times}倍？",
            "{young}-({old}-{young})/({times}-1)",
        ),
    ),
)

LATER: Final = Form(
    draw=_later,
    words=(_ELDER,),
    stories=(
        "{who}今年{young}岁，{elder}比{who}大{gap}岁，",
        "{elder}比{who}大{gap}岁，{who}今年{young}岁，",
        "今年{who}{young}岁，比{elder}小{gap}岁，",
    ),
    held_out=("{who}和{elder}相差{gap}岁，{who}年纪小，现在是{young}岁，",),
    questions=(
        Question("[再过{years}年|{years}年后]{elder}多少岁？", "{young}+{gap}+{years}"),
        Question("[再过{years}年|{years}年后]{elder}比{who}大多少岁？", "{gap}"),
    ),
)

SUM: Final = Form(
    draw=_sum,
    words=(_ELDER,),
    stories=(
        "{who}和{elder}今年的年龄和是{sum}岁，{elder}的年龄是{who}的{times}倍，",
        "今年{elder}的年龄是{who}的{times}倍，两人一共{sum}岁，",
        "{elder}和{who}的年龄加起来是{sum}岁，[已知|又知]{elder}的岁数是{who}的{times}倍，",
    ),
    held_out=("把{who}和{elder}的岁数相加得{sum}，{elder}的岁数恰好是{who}的{times}倍，",),
    questions=(
        Question("{who}今年[多少|几]岁？", "{sum}/({times}+1)"),
        Question("{elder}今年多少岁？", "{sum}/({times}+1)*{times}"),
    ),
)

AGES: Final = Kind(
    "年龄",
    "ages",
    (FUTURE, PAST, LATER, SUM),
    asides=("{other}的邻居今年{noise}岁。", "{who}的生日在春天。"),
)
