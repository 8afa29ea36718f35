"""One unit first, and one total first.

归一问题与归总问题。
"""

from __future__ import annotations

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
from hanformer.arithmetic.generated.words import GOODS

_MAKING: Final = Words(
    ("maker", "do", "unit", "time"),
    (
        ("一台机器", "加工零件", "个", "小时"),
        ("工人师傅", "做玩具", "个", "小时"),
        ("一台抽水机", "抽水", "吨", "小时"),
        ("修路队", "修路", "米", "天"),
        ("一台收割机", "收割小麦", "亩", "小时"),
        ("一名打字员", "打字", "行", "分钟"),
    ),
)
_TEAMS: Final = Words(
    ("maker", "unit", "do", "piece"),
    (
        ("织布机", "台", "织布", "米"),
        ("拖拉机", "台", "耕地", "亩"),
        ("工人", "名", "加工零件", "个"),
        ("抽水机", "台", "抽水", "吨"),
        ("小汽车", "辆", "运货", "吨"),
    ),
)


def _goods(rng: Random) -> Values:
    price, count = maybe_decimal(rng, 2, 60), rng.randint(2, 20)
    return {"total": shown(exact(price) * count), "count": count, "more": rng.randint(3, 40)}


def _output(rng: Random) -> Values:
    pace, time = rng.randint(2, 60), rng.randint(2, 20)
    return {"total": pace * time, "count": time, "more": rng.randint(3, 40)}


def _reverse(rng: Random) -> Values:
    price, count = rng.randint(2, 60), rng.randint(2, 20)
    return {"total": price * count, "count": count, "money": price * rng.randint(3, 40)}


def _double(rng: Random) -> Values:
    pace, makers, days = rng.randint(2, 25), rng.randint(2, 12), rng.randint(2, 12)
    return {
        "total": pace * makers * days,
        "makers": makers,
        "days": days,
        "crew": rng.randint(3, 20),
        "time": rng.randint(3, 20),
    }


def _fixed(rng: Random) -> Values:
    days, term = rng.randint(3, 30), rng.randint(3, 30)
    return {"pace": term * between(rng, (1, 12), (3, 20)), "days": days, "term": term}


PRICE: Final = Form(
    draw=_goods,
    words=(GOODS,),
    stories=(
        "{who}买{count}{unit}{thing}用了{total}元，",
        "{count}{unit}{thing}的总价是{total}元，",
        "{who}花{total}元买了{count}{unit}同样的{thing}，",
    ),
    held_out=("已知{thing}每{count}{unit}卖{total}元，单价不变，",),
    questions=(
        Question(
            "[照这样计算|照这样]，买{more}{unit}[要用|需要]多少元？", "{total}/{count}*{more}", "decimal"
        ),
    ),
)

AFFORD: Final = Form(
    draw=_reverse,
    words=(GOODS,),
    stories=(
        "{who}买{count}{unit}{thing}用了{total}元，",
        "{count}{unit}{thing}的总价是{total}元，",
    ),
    held_out=("已知{thing}每{count}{unit}卖{total}元，单价不变，",),
    questions=(Question("[照这样计算|照这样]，{money}元可以买[多少|几]{unit}？", "{money}*{count}/{total}"),),
)

OUTPUT: Final = Form(
    draw=_output,
    words=(_MAKING,),
    stories=(
        "{maker}{count}{time}{do}{total}{unit}，",
        "{maker}{do}，{count}{time}完成{total}{unit}，",
    ),
    held_out=("{maker}{do}的速度保持不变，用了{count}{time}共完成{total}{unit}，",),
    questions=(
        Question("[照这样计算|照这样的速度]，{more}{time}可以{do}多少{unit}？", "{total}/{count}*{more}"),
    ),
)

DOUBLE: Final = Form(
    draw=_double,
    words=(_TEAMS,),
    stories=(
        "{makers}{unit}{maker}{days}天{do}{total}{piece}，",
        "{makers}{unit}{maker}一起{do}，{days}天共完成{total}{piece}，",
    ),
    held_out=("每{unit}{maker}的效率一样，{makers}{unit}同时{do}，{days}天的成绩是{total}{piece}，",),
    questions=(
        Question(
            "[照这样计算|照这样]，{crew}{unit}{maker}{time}天[可以|能]{do}多少{piece}？",
            "{total}/{makers}/{days}*{crew}*{time}",
        ),
        Question("平均每{unit}{maker}每天{do}多少{piece}？", "{total}/{makers}/{days}"),
    ),
)

UNITARY: Final = Kind("归一", "the unitary method", (PRICE, AFFORD, OUTPUT, DOUBLE))

FIXED: Final = Form(
    draw=_fixed,
    words=(
        Words(
            ("job", "do", "unit"),
            (
                ("一本书", "看", "页"),
                ("一批零件", "加工", "个"),
                ("一条公路", "修", "米"),
                ("一堆煤", "烧", "千克"),
                ("一批大米", "吃", "千克"),
            ),
        ),
    ),
    stories=(
        "{job}，每天{do}{pace}{unit}，{days}天可以{do}完，",
        "{job}，计划每天{do}{pace}{unit}，{days}天正好{do}完，",
        "有{job}，如果每天{do}{pace}{unit}，要{do}{days}天才能{do}完，",
        "{job}，{days}天{do}完，每天{do}{pace}{unit}，",
        "{job}，原计划{days}天{do}完，平均每天{do}{pace}{unit}，",
        "{job}，若每天{do}{pace}{unit}，则{days}天{do}完，",
    ),
    held_out=(
        "{job}，要是每天只{do}{pace}{unit}，得{do}{days}天，",
        "按每天{pace}{unit}的速度，{job}要{days}天才能{do}完，",
    ),
    questions=(
        Question("如果要{term}天{do}完，[平均每天|每天]要{do}多少{unit}？", "{pace}*{days}/{term}"),
        Question("[一共|总共]有多少{unit}？", "{pace}*{days}"),
    ),
)

TOTALS: Final = Kind("归总", "one total first", (FIXED,))
