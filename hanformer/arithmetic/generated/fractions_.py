"""Fractions of a whole.

分数问题。
"""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words, between, exact, fraction

_WHOLE: Final = Words(
    ("whole", "unit", "used"),
    (
        ("一本书", "页", "看了"),
        ("一根绳子", "米", "剪去了"),
        ("一批货物", "吨", "运走了"),
        ("一条公路", "米", "修了"),
        ("一袋面粉", "千克", "用去了"),
        ("一批零件", "个", "加工了"),
        ("一桶油", "千克", "用去了"),
    ),
)


def _share(rng: Random) -> Values:
    part = fraction(rng)
    return {"total": exact(part).denominator * between(rng, (3, 30), (10, 90)), "part": part}


def _piece(rng: Random) -> Values:
    part = fraction(rng)
    return {"amount": exact(part).numerator * between(rng, (3, 30), (10, 90)), "part": part}


def _two(rng: Random) -> Values:
    first, second = fraction(rng, 9), fraction(rng, 9)
    step = Fraction(1, exact(first).denominator * exact(second).denominator)
    return {"total": step.denominator * between(rng, (1, 5), (2, 20)), "first": first, "second": second}


def _two_parts(rng: Random) -> Values:
    return {"first": fraction(rng), "second": fraction(rng)}


def _lengths(rng: Random) -> Values:
    short = fraction(rng, 8) if rng.randrange(2) else f"{rng.randint(1, 4)}{fraction(rng, 8)}"
    return {"long": f"{rng.randint(2, 12)}{fraction(rng, 8)}", "short": short}


SHARE: Final = Form(
    draw=_share,
    words=(_WHOLE,),
    stories=(
        "{whole}有{total}{unit}，已经{used}它的{part}，",
        "{whole}共{total}{unit}，第一次{used}全部的{part}，",
        "{whole}一共{total}{unit}，{used}总数的{part}，",
    ),
    held_out=("{whole}总共{total}{unit}，到现在为止，{used}其中的{part}，",),
    questions=(
        Question("{used}多少{unit}？", "{total}*{part}"),
        Question("[还剩|剩下]多少{unit}？", "{total}*(1-{part})"),
    ),
)

WHOLE: Final = Form(
    draw=_piece,
    words=(_WHOLE,),
    stories=(
        "{whole}，已经{used}{amount}{unit}，正好是全部的{part}，",
        "{whole}，第一次{used}{amount}{unit}，占总数的{part}，",
        "{whole}，{used}它的{part}，正好是{amount}{unit}，",
    ),
    held_out=("{whole}，如果{used}{amount}{unit}，就相当于{used}整个的{part}，",),
    questions=(
        Question("[一共有|总共有]多少{unit}？", "{amount}/{part}"),
        Question("[还剩|剩下]多少{unit}？", "{amount}/{part}-{amount}"),
    ),
)

TWICE: Final = Form(
    draw=_two,
    words=(_WHOLE,),
    stories=(
        "{whole}有{total}{unit}，第一次{used}全部的{first}，第二次{used}全部的{second}，",
        "{whole}共{total}{unit}，上午{used}它的{first}，下午{used}它的{second}，",
    ),
    held_out=("{whole}总共{total}{unit}，先{used}总量的{first}，后来又{used}总量的{second}，",),
    questions=(
        Question("[还剩|剩下]多少{unit}？", "{total}*(1-{first}-{second})"),
        Question("两次[一共|共]{used}多少{unit}？", "{total}*({first}+{second})"),
    ),
)

REMAINDER: Final = Form(
    draw=_two_parts,
    words=(_WHOLE,),
    stories=(
        "{whole}，第一次{used}它的{first}，第二次{used}它的{second}，",
        "{whole}，上午{used}全部的{first}，下午{used}全部的{second}，",
    ),
    held_out=("{whole}，先{used}总量的{first}，后来又{used}总量的{second}，",),
    questions=(Question("[还剩|剩下]全部的几分之几？", "1-{first}-{second}", "fraction"),),
)

LENGTHS: Final = Form(
    draw=_lengths,
    words=(
        Words(
            ("rope", "other_rope", "unit"),
            (("红绳", "绿绳", "米"), ("长竹竿", "短竹竿", "米"), ("甲筐水果", "乙筐水果", "千克")),
        ),
    ),
    stories=(
        "{rope}有{long}{unit}，{other_rope}有{short}{unit}，",
        "{other_rope}是{short}{unit}，{rope}是{long}{unit}，",
    ),
    held_out=("量一量，{rope}为{long}{unit}，而{other_rope}为{short}{unit}，",),
    questions=(
        Question("{rope}比{other_rope}多多少{unit}？", "{long}-{short}", "fraction"),
        Question("{rope}和{other_rope}[一共|合起来]有多少{unit}？", "{long}+{short}", "fraction"),
    ),
)

FRACTIONS: Final = Kind("分数", "fractions", (SHARE, WHOLE, TWICE, REMAINDER, LENGTHS))
