"""Trade: cost, price, profit and discount; and plain shopping.

利润问题与购物问题。
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
    percent,
    shown,
)
from hanformer.arithmetic.generated.words import GOODS

_GOODS: Final = Words(
    ("goods", "unit"),
    (
        ("衣服", "件"),
        ("皮鞋", "双"),
        ("电饭锅", "个"),
        ("台灯", "盏"),
        ("自行车", "辆"),
        ("书包", "个"),
        ("手表", "块"),
        ("电风扇", "台"),
    ),
)


def _markup(rng: Random) -> Values:
    return {"cost": between(rng, (20, 100), (100, 900)), "rate": percent(rng, 5, 60)}


def _price(rng: Random) -> Values:
    values = _markup(rng)
    return {"price": shown(int(values["cost"]) * (1 + exact(values["rate"]))), "rate": values["rate"]}


def _cost_and_price(rng: Random) -> Values:
    values = _markup(rng)
    price = int(values["cost"]) * (1 + exact(values["rate"]))
    return {"price": shown(price), "cost": values["cost"]}


def _discount(rng: Random) -> Values:
    marked = between(rng, (40, 120), (100, 900))
    return {"marked": marked, "off": percent(rng, 50, 95), "cost": rng.randint(marked // 2, marked)}


def _lot(rng: Random) -> Values:
    buy = maybe_decimal(rng, 15, 120)
    gain = maybe_decimal(rng, 3, 30)
    return {"buy": buy, "sell": shown(exact(buy) + exact(gain)), "count": rng.randint(5, 200)}


def _basket(rng: Random) -> Values:
    return {
        "first": maybe_decimal(rng, 2, 25),
        "many": rng.randint(2, 20),
        "second": maybe_decimal(rng, 2, 25),
        "few": rng.randint(2, 20),
    }


def _change(rng: Random) -> Values:
    price, count = maybe_decimal(rng, 2, 45), rng.randint(2, 20)
    paid = next(note for note in (20, 50, 100, 200, 500, 1000) if note >= exact(price) * count)
    return {"price": price, "count": count, "paid": paid}


def _left(rng: Random) -> Values:
    price, count, left = rng.randint(3, 45), rng.randint(2, 20), rng.randint(3, 60)
    return {"paid": price * count + left, "count": count, "left": left}


MARKUP: Final = Form(
    draw=_markup,
    words=(_GOODS,),
    stories=(
        "一{unit}{goods}的进价是{cost}元，商店[想获得|要获得]{rate}的利润，",
        "商店以每{unit}{cost}元的价格买进一批{goods}，按{rate}的利润率定价，",
        "某商场购进一种{goods}，每{unit}成本{cost}元，加上{rate}的利润后出售，",
    ),
    held_out=("{goods}的成本为每{unit}{cost}元，店主打算在成本的基础上赚{rate}，",),
    questions=(
        Question("每{unit}[应卖|售价是|应定价]多少元？", "{cost}*(1+{rate})", "decimal"),
        Question("每{unit}可以赚多少元？", "{cost}*{rate}", "decimal"),
    ),
)

COST: Final = Form(
    draw=_price,
    words=(_GOODS,),
    stories=(
        "一{unit}{goods}售价{price}元，[可以获得{rate}的利润|获利{rate}]，",
        "商店卖出一{unit}{goods}，卖价是{price}元，比进价高{rate}，",
        "某商场按{rate}的利润率给一种{goods}定价，每{unit}定价{price}元，",
    ),
    held_out=("店主把一{unit}{goods}卖了{price}元，算下来赚了成本的{rate}，",),
    questions=(Question("每{unit}{goods}的[进价|成本]是多少元？", "{price}/(1+{rate})"),),
)

MARGIN: Final = Form(
    draw=_cost_and_price,
    words=(_GOODS,),
    stories=(
        "一{unit}{goods}的进价是{cost}元，售价是{price}元，",
        "商店以{cost}元买进一{unit}{goods}，以{price}元卖出，",
        "某商场一种{goods}每{unit}卖{price}元，成本是{cost}元，",
    ),
    held_out=("一{unit}{goods}卖出去收回{price}元，当初进货花了{cost}元，",),
    questions=(
        Question("利润率是[多少|百分之几]？", "({price}-{cost})/{cost}", "percent"),
        Question("[卖出一{unit}|每{unit}][赚|的利润是]多少元？", "{price}-{cost}", "decimal"),
    ),
)

DISCOUNT: Final = Form(
    draw=_discount,
    words=(_GOODS,),
    stories=(
        "一{unit}{goods}进价{cost}元，标价{marked}元，[促销时|节日期间]按标价的{off}出售，",
        "{goods}每{unit}标价{marked}元，成本{cost}元，现在按标价的{off}卖出，",
        "某商店的{goods}成本是每{unit}{cost}元，原来定价{marked}元，后来按定价的{off}出售，",
    ),
    held_out=("店里一{unit}{goods}的价签上写着{marked}元，进货时花了{cost}元，清仓时只收价签的{off}，",),
    questions=(
        Question("[现在|打折后]每{unit}卖多少元？", "{marked}*{off}", "decimal"),
        Question("[每{unit}|卖出一{unit}][还能赚|获利]多少元？", "{marked}*{off}-{cost}", "decimal"),
    ),
)

LOT: Final = Form(
    draw=_lot,
    words=(_GOODS,),
    stories=(
        "商店买进{count}{unit}{goods}，每{unit}进价{buy}元，每{unit}卖{sell}元，全部卖完，",
        "{goods}每{unit}成本{buy}元，售价{sell}元，商店卖出{count}{unit}，",
    ),
    held_out=(
        "一批{goods}共{count}{unit}，进货时{buy}元一{unit}，出售时{sell}元一{unit}，最后一{unit}不剩，",
    ),
    questions=(Question("[一共|共]可以[赚|获利]多少元？", "({sell}-{buy})*{count}", "decimal"),),
)

TRADE: Final = Kind(
    "利润",
    "profit",
    (MARKUP, COST, MARGIN, DISCOUNT, LOT),
    asides=("这家商店开业已经{noise}天了。", "店里有{noise}名售货员。", "这种{goods}很受欢迎。"),
)

_PAIRS: Final = Words(
    ("things", "unit", "others", "piece"),
    (
        ("钢笔", "支", "文具盒", "个"),
        ("苹果", "千克", "香蕉", "千克"),
        ("桌子", "张", "椅子", "把"),
        ("足球", "个", "篮球", "个"),
        ("毛巾", "条", "牙刷", "支"),
        ("成人票", "张", "儿童票", "张"),
    ),
)

BASKET: Final = Form(
    draw=_basket,
    words=(_PAIRS,),
    stories=(
        "{who}买了{many}{unit}{things}和{few}{piece}{others}，{things}每{unit}{first}元，{others}每{piece}{second}元，",
        "{things}每{unit}{first}元，{others}每{piece}{second}元。{who}买{many}{unit}{things}、{few}{piece}{others}，",
        "{who}去买东西，{first}元一{unit}的{things}买了{many}{unit}，{second}元一{piece}的{others}买了{few}{piece}，",
    ),
    held_out=(
        "{who}的购物单上有{many}{unit}{things}（单价{first}元）和{few}{piece}{others}（单价{second}元），",
    ),
    questions=(
        Question("[一共|总共][要付|要花|应付]多少元？", "{first}*{many}+{second}*{few}", "decimal"),
        Question("买{things}比买{others}多花多少元？", "{first}*{many}-{second}*{few}", "decimal"),
    ),
)

CHANGE: Final = Form(
    draw=_change,
    words=(GOODS,),
    stories=(
        "{who}买{count}{unit}{thing}，每{unit}{price}元，付给售货员{paid}元，",
        "{thing}每{unit}{price}元，{who}带了{paid}元，买了{count}{unit}，",
        "{who}拿{paid}元去买{thing}，一{unit}要{price}元，一共买了{count}{unit}，",
    ),
    held_out=("一{unit}{thing}卖{price}元，{who}挑了{count}{unit}，递给收银员{paid}元，",),
    questions=(Question("[应找回|还剩|剩下]多少元？", "{paid}-{price}*{count}", "decimal"),),
)

LEFT: Final = Form(
    draw=_left,
    words=(GOODS,),
    stories=(
        "{who}带了{paid}元，买了{count}{unit}{thing}后还剩{left}元，",
        "{who}买{count}{unit}同样的{thing}，付了{paid}元，找回{left}元，",
    ),
    held_out=("{who}钱包里原有{paid}元，买完{count}{unit}{thing}，钱包里还有{left}元，",),
    questions=(Question("[每{unit}{thing}|一{unit}{thing}]多少元？", "({paid}-{left})/{count}"),),
)

SHOPPING: Final = Kind(
    "购物",
    "shopping",
    (BASKET, CHANGE, LEFT),
    asides=("商店离{who}家有{noise}米。", "店里还有{noise}位顾客。"),
)
