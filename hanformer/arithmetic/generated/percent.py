"""Percentages: change, rates, interest; and concentrations.

百分数问题与浓度问题。
"""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Final

from hanformer.arithmetic.generated import kinds
from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words, between, exact, shown

_COUNTED: Final = Words(
    ("owner", "thing", "unit"),
    (
        ("学校图书室", "图书", "本"),
        ("某车队", "汽车", "辆"),
        ("某农场", "果树", "棵"),
        ("养殖场", "鸡", "只"),
        ("某小学", "学生", "名"),
        ("某公司", "员工", "名"),
    ),
)
_RATE: Final = Words(
    ("scene", "all", "good", "bad", "unit", "rate"),
    (
        ("检验一批产品", "检验", "合格", "不合格", "件", "合格率"),
        ("做种子发芽试验", "试验", "发芽", "没发芽", "粒", "发芽率"),
        ("六年级同学参加体育测试", "测试", "达标", "没达标", "人", "达标率"),
        ("植树节种一批树", "种", "成活", "没成活", "棵", "成活率"),
        ("练习投篮", "投", "命中", "没命中", "次", "命中率"),
    ),
)


def _change(rng: Random) -> Values:
    return {"base": between(rng, (2, 20), (10, 90)) * 20, "rate": kinds.percent(rng, 5, 75)}


def _after(rng: Random, sign: int) -> Values:
    values = _change(rng)
    now = exact(values["base"]) * (1 + sign * exact(values["rate"]))
    return {"now": shown(now), "rate": values["rate"]}


def _risen(rng: Random) -> Values:
    return _after(rng, 1)


def _fallen(rng: Random) -> Values:
    return _after(rng, -1)


def _compare(rng: Random) -> Values:
    base = between(rng, (2, 20), (10, 50)) * 10
    return {"base": base, "now": base + rng.randint(1, base // 5) * 5}


def _good(rng: Random) -> Values:
    total = rng.choice((20, 25, 40, 50, 80, 125, 160, 200, 250, 400, 500))
    return {"total": total, "count": rng.randint(total * 3 // 4, total - 1)}


def _bad(rng: Random) -> Values:
    values = _good(rng)
    return {"total": values["total"], "count": int(values["total"]) - int(values["count"])}


def _interest(rng: Random) -> Values:
    rate = kinds.decimal(rng, 1, 5, rng.choice((1, 2)))
    return {
        "principal": between(rng, (1, 20), (5, 50)) * 1000,
        "rate": f"{rate}%",
        "years": rng.randint(2, 5),
    }


def _mix(rng: Random) -> Values:
    total = between(rng, (4, 20), (10, 60)) * 10
    salt = Fraction(total * rng.randint(2, 25), 100)
    return {"salt": shown(salt), "water": shown(total - salt)}


def _solution(rng: Random) -> Values:
    return {"weight": between(rng, (4, 40), (20, 100)) * 10, "rate": kinds.percent(rng, 4, 25, 1)}


def _dilute(rng: Random) -> Values:
    rate, part = rng.randint(5, 25), rng.randint(5, 60)
    target = rng.randint(2, rate - 1)
    return {
        "weight": target * part,
        "rate": f"{rate}%",
        "water": (rate - target) * part,
        "target": f"{target}%",
    }


RISE: Final = Form(
    draw=_change,
    words=(_COUNTED,),
    stories=(
        "{owner}去年有{thing}{base}{unit}，今年比去年增加了{rate}，",
        "{owner}原来有{base}{unit}{thing}，现在增加了{rate}，",
        "{owner}去年有{base}{unit}{thing}，今年的{thing}比去年多{rate}，",
    ),
    held_out=("去年{owner}的{thing}是{base}{unit}，到了今年，数量增长了{rate}，",),
    questions=(
        Question("[现在|今年]有{thing}多少{unit}？", "{base}*(1+{rate})"),
        Question("[增加了|多了]多少{unit}？", "{base}*{rate}"),
    ),
)

FALL: Final = Form(
    draw=_change,
    words=(_COUNTED,),
    stories=(
        "{owner}去年有{thing}{base}{unit}，今年比去年减少了{rate}，",
        "{owner}原来有{base}{unit}{thing}，现在减少了{rate}，",
    ),
    held_out=("去年{owner}的{thing}是{base}{unit}，到了今年，数量下降了{rate}，",),
    questions=(
        Question("[现在|今年]有{thing}多少{unit}？", "{base}*(1-{rate})"),
        Question("[减少了|少了]多少{unit}？", "{base}*{rate}"),
    ),
)

BEFORE_RISE: Final = Form(
    draw=_risen,
    words=(_COUNTED,),
    stories=(
        "{owner}今年有{thing}{now}{unit}，比去年增加了{rate}，",
        "{owner}现有{now}{unit}{thing}，比去年多{rate}，",
    ),
    held_out=("与去年相比，{owner}的{thing}数量增长了{rate}，达到{now}{unit}，",),
    questions=(Question("去年有{thing}多少{unit}？", "{now}/(1+{rate})"),),
)

BEFORE_FALL: Final = Form(
    draw=_fallen,
    words=(_COUNTED,),
    stories=(
        "{owner}今年有{thing}{now}{unit}，比去年减少了{rate}，",
        "{owner}现有{now}{unit}{thing}，比去年少{rate}，",
    ),
    held_out=("与去年相比，{owner}的{thing}数量下降了{rate}，只有{now}{unit}，",),
    questions=(Question("去年有{thing}多少{unit}？", "{now}/(1-{rate})"),),
)

COMPARE: Final = Form(
    draw=_compare,
    words=(_COUNTED,),
    stories=(
        "{owner}去年有{thing}{base}{unit}，今年有{now}{unit}，",
        "{owner}今年有{now}{unit}{thing}，去年有{base}{unit}，",
    ),
    held_out=("{owner}的{thing}从去年的{base}{unit}变为今年的{now}{unit}，",),
    questions=(
        Question("今年比去年[增加|增加了|多]百分之几？", "({now}-{base})/{base}", "percent"),
        Question("今年是去年的百分之几？", "{now}/{base}", "percent"),
    ),
)

GOOD: Final = Form(
    draw=_good,
    words=(_RATE,),
    stories=(
        "{scene}，一共{all}了{total}{unit}，其中{good}的有{count}{unit}，",
        "{scene}，{total}{unit}中有{count}{unit}{good}，",
    ),
    held_out=("{scene}，{all}了{total}{unit}后统计，{good}的有{count}{unit}，",),
    questions=(Question("{rate}是[多少|百分之几]？", "{count}/{total}", "percent"),),
)

BAD: Final = Form(
    draw=_bad,
    words=(_RATE,),
    stories=(
        "{scene}，一共{all}了{total}{unit}，其中{bad}的有{count}{unit}，",
        "{scene}，{total}{unit}中有{count}{unit}{bad}，",
    ),
    held_out=("{scene}，{all}了{total}{unit}后统计，只有{count}{unit}{bad}，",),
    questions=(Question("{rate}是[多少|百分之几]？", "({total}-{count})/{total}", "percent"),),
)

INTEREST: Final = Form(
    draw=_interest,
    words=(Words(("saver",), (("爸爸",), ("妈妈",), ("李叔叔",), ("王阿姨",), ("爷爷",))),),
    stories=(
        "{saver}把{principal}元存入银行，定期{years}年，年利率是{rate}，",
        "{saver}在银行存了{principal}元，存期{years}年，年利率{rate}，",
    ),
    held_out=("银行的年利率为{rate}，{saver}把{principal}元在银行里存满{years}年，",),
    questions=(
        Question("到期[可得利息|能得到利息]多少元？", "{principal}*{rate}*{years}", "decimal"),
        Question(
            "到期[一共可取回|本金和利息共]多少元？", "{principal}+{principal}*{rate}*{years}", "decimal"
        ),
    ),
)

PERCENT: Final = Kind(
    "百分数", "percentages", (RISE, FALL, BEFORE_RISE, BEFORE_FALL, COMPARE, GOOD, BAD, INTEREST)
)

_SOLUTE: Final = Words(("solute", "solution"), (("盐", "盐水"), ("糖", "糖水"), ("药粉", "药水")))

MIX: Final = Form(
    draw=_mix,
    words=(_SOLUTE,),
    stories=(
        "把{salt}克{solute}放入{water}克水中，完全溶解，",
        "在{water}克水里加入{salt}克{solute}，[充分搅拌|全部溶解]，",
        "{who}用{salt}克{solute}和{water}克水配成{solution}，",
    ),
    held_out=("杯子里有{water}克水，{who}往里面倒进{salt}克{solute}并搅匀，",),
    questions=(
        Question("{solution}的浓度是[多少|百分之几]？", "{salt}/({salt}+{water})", "percent"),
        Question("{solution}[重|一共有]多少克？", "{salt}+{water}", "decimal"),
    ),
)

SOLUTION: Final = Form(
    draw=_solution,
    words=(_SOLUTE,),
    stories=(
        "有浓度为{rate}的{solution}{weight}克，",
        "一杯{solution}重{weight}克，浓度是{rate}，",
        "{who}配制了{weight}克浓度为{rate}的{solution}，",
    ),
    held_out=("实验室里的{weight}克{solution}，浓度经测定为{rate}，",),
    questions=(
        Question("其中含{solute}多少克？", "{weight}*{rate}", "decimal"),
        Question("其中含水多少克？", "{weight}*(1-{rate})", "decimal"),
    ),
)

DILUTE: Final = Form(
    draw=_dilute,
    words=(_SOLUTE,),
    stories=(
        "有浓度为{rate}的{solution}{weight}克，",
        "一杯{solution}重{weight}克，浓度是{rate}，",
    ),
    held_out=("实验室里的{weight}克{solution}，浓度经测定为{rate}，",),
    questions=(
        Question(
            "[再加入|加入]{water}克水后，浓度是[多少|百分之几]？",
            "{weight}*{rate}/({weight}+{water})",
            "percent",
        ),
        Question("要使浓度降为{target}，[需加水|要加水]多少克？", "{weight}*{rate}/{target}-{weight}"),
    ),
)

CONCENTRATION: Final = Kind(
    "浓度",
    "concentration",
    (MIX, SOLUTION, DILUTE),
    asides=("实验室里有{noise}个烧杯。", "这时水温是{noise}摄氏度。"),
)
