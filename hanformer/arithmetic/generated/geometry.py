"""Perimeters, areas and volumes.

几何：周长、面积与体积。
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

_RECTANGLE: Final = Words(
    ("a", "shape", "unit"),
    (
        ("一块", "长方形菜地", "米"),
        ("一个", "长方形操场", "米"),
        ("一个", "长方形花坛", "米"),
        ("一张", "长方形纸片", "厘米"),
        ("一块", "长方形木板", "分米"),
    ),
)
_SQUARE: Final = Words(
    ("a", "shape", "unit"),
    (
        ("一块", "正方形手帕", "厘米"),
        ("一个", "正方形花坛", "米"),
        ("一块", "正方形地砖", "分米"),
        ("一个", "正方形池塘", "米"),
    ),
)
_TRIANGLE: Final = Words(
    ("a", "shape", "unit"),
    (("一个", "三角形", "厘米"), ("一块", "三角形菜地", "米"), ("一张", "三角形彩纸", "分米")),
)
_CIRCLE: Final = Words(
    ("a", "shape", "unit"),
    (
        ("一个", "圆形花坛", "米"),
        ("一个", "圆形桌面", "分米"),
        ("一个", "圆形水池", "米"),
        ("一块", "圆形铁片", "厘米"),
    ),
)
_BOX: Final = Words(
    ("a", "shape", "unit"),
    (
        ("一个", "长方体木箱", "分米"),
        ("一个", "长方体水箱", "分米"),
        ("一块", "长方体铁块", "厘米"),
        ("一个", "长方体沙坑", "米"),
    ),
)


def _sides(rng: Random) -> Values:
    wide = between(rng, (3, 20), (10, 90))
    return {"wide": wide, "long": wide + rng.randint(1, 60)} if rng.randrange(3) else _decimal_sides(rng)


def _decimal_sides(rng: Random) -> Values:
    wide = maybe_decimal(rng, 2, 12)
    return {"wide": wide, "long": shown(exact(wide) + exact(maybe_decimal(rng, 1, 10)))}


def _perimeter(rng: Random) -> Values:
    wide, long = rng.randint(3, 40), rng.randint(3, 60)
    return {"around": 2 * (wide + long), "long": max(wide, long)}


def _area(rng: Random) -> Values:
    wide, long = rng.randint(3, 40), rng.randint(3, 60)
    return {"area": wide * long, "long": max(wide, long)}


def _side(rng: Random) -> Values:
    return {"side": maybe_decimal(rng, 3, 60)}


def _base(rng: Random) -> Values:
    return {"base": maybe_decimal(rng, 3, 60), "height": maybe_decimal(rng, 3, 40)}


def _trapezoid(rng: Random) -> Values:
    return {**_base(rng), "top": maybe_decimal(rng, 3, 50)}


def _radius(rng: Random) -> Values:
    return {"radius": maybe_decimal(rng, 3, 30)}


def _box(rng: Random) -> Values:
    return {"long": rng.randint(6, 30), "wide": rng.randint(4, 20), "high": maybe_decimal(rng, 3, 15)}


RECTANGLE: Final = Form(
    draw=_sides,
    words=(_RECTANGLE,),
    stories=(
        "{a}{shape}，长{long}{unit}，宽{wide}{unit}，",
        "{a}{shape}的长是{long}{unit}，宽是{wide}{unit}，",
        "有{a}宽{wide}{unit}、长{long}{unit}的{shape}，",
    ),
    held_out=("{who}量了{a}{shape}，宽为{wide}{unit}，长为{long}{unit}，",),
    questions=(
        Question("它的周长是多少{unit}？", "({long}+{wide})*2", "decimal"),
        Question("它的面积是多少平方{unit}？", "{long}*{wide}", "decimal"),
    ),
)

FROM_PERIMETER: Final = Form(
    draw=_perimeter,
    words=(_RECTANGLE,),
    stories=(
        "{a}{shape}的周长是{around}{unit}，长是{long}{unit}，",
        "{a}{shape}，长{long}{unit}，周长{around}{unit}，",
    ),
    held_out=("绕{a}{shape}的四边走一圈共{around}{unit}，它的长为{long}{unit}，",),
    questions=(
        Question("它的宽是多少{unit}？", "{around}/2-{long}"),
        Question("它的面积是多少平方{unit}？", "({around}/2-{long})*{long}"),
    ),
)

FROM_AREA: Final = Form(
    draw=_area,
    words=(_RECTANGLE,),
    stories=(
        "{a}{shape}的面积是{area}平方{unit}，长是{long}{unit}，",
        "{a}{shape}，长{long}{unit}，面积{area}平方{unit}，",
    ),
    held_out=("{area}平方{unit}正好是{a}{shape}的面积，它的长为{long}{unit}，",),
    questions=(
        Question("它的宽是多少{unit}？", "{area}/{long}"),
        Question("它的周长是多少{unit}？", "({area}/{long}+{long})*2"),
    ),
)

SQUARE: Final = Form(
    draw=_side,
    words=(_SQUARE,),
    stories=("{a}{shape}的边长是{side}{unit}，", "{a}{shape}，每边长{side}{unit}，"),
    held_out=("{who}测得{a}{shape}的一条边长{side}{unit}，",),
    questions=(
        Question("它的周长是多少{unit}？", "{side}*4", "decimal"),
        Question("它的面积是多少平方{unit}？", "{side}*{side}", "decimal"),
    ),
)

TRIANGLE: Final = Form(
    draw=_base,
    words=(_TRIANGLE,),
    stories=(
        "{a}{shape}的底是{base}{unit}，高是{height}{unit}，",
        "{a}{shape}，高{height}{unit}，底边长{base}{unit}，",
    ),
    held_out=("{who}量得{a}{shape}的底边为{base}{unit}，这条底边上的高为{height}{unit}，",),
    questions=(Question("它的面积是多少平方{unit}？", "{base}*{height}/2", "decimal"),),
)

TRAPEZOID: Final = Form(
    draw=_trapezoid,
    words=(
        Words(
            ("a", "shape", "unit"),
            (("一个", "梯形", "厘米"), ("一块", "梯形麦田", "米"), ("一条水渠的", "梯形横截面", "分米")),
        ),
    ),
    stories=(
        "{a}{shape}，上底{top}{unit}，下底{base}{unit}，高{height}{unit}，",
        "{a}{shape}的上底是{top}{unit}，下底是{base}{unit}，高是{height}{unit}，",
    ),
    held_out=("{who}量得{a}{shape}高{height}{unit}，它的上底和下底分别为{top}{unit}和{base}{unit}，",),
    questions=(Question("它的面积是多少平方{unit}？", "({top}+{base})*{height}/2", "decimal"),),
)

CIRCLE: Final = Form(
    draw=_radius,
    words=(_CIRCLE,),
    stories=("{a}{shape}的半径是{radius}{unit}，", "{a}{shape}，半径{radius}{unit}，"),
    held_out=("从{a}{shape}的圆心到边缘长{radius}{unit}，",),
    questions=(
        Question("它的周长是多少{unit}？[（圆周率取3.14）|]", "2*3.14*{radius}", "decimal"),
        Question("它的面积是多少平方{unit}？[（圆周率取3.14）|]", "3.14*{radius}*{radius}", "decimal"),
    ),
)

BOX: Final = Form(
    draw=_box,
    words=(_BOX,),
    stories=(
        "{a}{shape}，长{long}{unit}，宽{wide}{unit}，高{high}{unit}，",
        "{a}{shape}的长、宽、高分别是{long}{unit}、{wide}{unit}、{high}{unit}，",
    ),
    held_out=("{who}量得{a}{shape}高{high}{unit}，底面长{long}{unit}、宽{wide}{unit}，",),
    questions=(
        Question("它的体积是多少立方{unit}？", "{long}*{wide}*{high}", "decimal"),
        Question("它的表面积是多少平方{unit}？", "({long}*{wide}+{long}*{high}+{wide}*{high})*2", "decimal"),
    ),
)

GEOMETRY: Final = Kind(
    "几何",
    "perimeter, area, volume",
    (RECTANGLE, FROM_PERIMETER, FROM_AREA, SQUARE, TRIANGLE, TRAPEZOID, CIRCLE, BOX),
)
