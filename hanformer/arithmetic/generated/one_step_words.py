"""What one-step problems talk about, and how their numbers are drawn. 一步应用题的用词与取数。"""

from __future__ import annotations

from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Values, Words, between

FOODS: Final = Words(
    ("thing", "unit"),
    (
        ("苹果", "个"),
        ("橘子", "个"),
        ("桃子", "个"),
        ("包子", "个"),
        ("糖", "颗"),
        ("草莓", "颗"),
        ("饼干", "块"),
        ("香蕉", "根"),
    ),
)
THINGS: Final = Words(
    ("thing", "unit"),
    (
        *FOODS.rows,
        ("铅笔", "支"),
        ("气球", "个"),
        ("卡片", "张"),
        ("贴纸", "张"),
        ("邮票", "张"),
        ("练习本", "本"),
        ("玻璃球", "颗"),
    ),
)
STOCKS: Final = Words(
    ("place", "thing", "unit", "go", "come"),
    (
        ("商店", "大米", "千克", "卖出", "运来"),
        ("粮店", "面粉", "袋", "卖出", "运来"),
        ("水果店", "苹果", "千克", "卖出", "运来"),
        ("书店", "故事书", "本", "卖出", "运来"),
        ("仓库", "化肥", "吨", "运走", "运来"),
        ("工地", "水泥", "袋", "用去", "运来"),
        ("食堂", "土豆", "千克", "用去", "买来"),
        ("图书馆", "图书", "本", "借出", "买来"),
    ),
)
PAIRS: Final = Words(
    ("first", "second", "unit"),
    (
        ("红花", "黄花", "朵"),
        ("黄花", "红花", "朵"),
        ("苹果", "梨", "个"),
        ("公鸡", "母鸡", "只"),
        ("白兔", "黑兔", "只"),
        ("篮球", "足球", "个"),
        ("杨树", "柳树", "棵"),
        ("铅笔", "钢笔", "支"),
        ("红气球", "蓝气球", "个"),
    ),
)
JOBS: Final = Words(
    ("job", "unit", "do"),
    (
        ("一本书", "页", "看"),
        ("一本故事书", "页", "读"),
        ("一条路", "米", "修"),
        ("一条水渠", "米", "挖"),
        ("一批零件", "个", "做"),
        ("一批树苗", "棵", "栽"),
        ("一堆煤", "吨", "烧"),
    ),
)
PACKS: Final = Words(
    ("pack", "thing", "unit"),
    (
        ("盒", "铅笔", "支"),
        ("盒", "彩笔", "支"),
        ("袋", "糖", "颗"),
        ("箱", "苹果", "个"),
        ("箱", "牛奶", "瓶"),
        ("盘", "桃子", "个"),
        ("篮", "鸡蛋", "个"),
        ("束", "花", "朵"),
    ),
)
MOVERS: Final = Words(
    ("maker", "do", "unit", "time"),
    (
        ("一辆汽车", "行", "千米", "小时"),
        ("一列火车", "行", "千米", "小时"),
        ("一台机器", "做零件", "个", "小时"),
        ("李师傅", "做玩具", "个", "小时"),
        ("一台打印机", "打印", "页", "分钟"),
        ("修路队", "修路", "米", "天"),
    ),
)


def draw_sum(rng: Random) -> Values:
    ranges = ((2, 20), (2, 20), (5, 60), (20, 200))
    return {"some": between(rng, *ranges), "more": between(rng, *ranges)}


def draw_difference(rng: Random) -> Values:
    whole = between(rng, (3, 20), (3, 20), (10, 100), (50, 200))
    return {"whole": whole, "part": rng.randint(2, whole - 1)}


def draw_meal(rng: Random) -> Values:
    whole = between(rng, (3, 12), (3, 20), (10, 60))
    return {"whole": whole, "part": rng.randint(2, whole - 1)}


def draw_product(rng: Random) -> Values:
    return {"each": between(rng, (2, 12), (2, 12), (5, 60)), "count": between(rng, (2, 9), (2, 9), (5, 20))}


def draw_quotient(rng: Random) -> Values:
    each, count = between(rng, (2, 9), (2, 9), (5, 40)), between(rng, (2, 9), (2, 9), (5, 20))
    return {"total": each * count, "by": each if rng.randrange(2) else count}
