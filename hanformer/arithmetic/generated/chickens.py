"""Chickens and rabbits: two sorts of things, their number and the sum of what each counts for.

鸡兔同笼问题。
"""

from __future__ import annotations

from random import Random
from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Values, Words, between


def _animals(rng: Random) -> Values:
    two = between(rng, (2, 20), (8, 60))
    four = between(rng, (2, 20), (8, 60))
    return {"heads": two + four, "legs": 2 * two + 4 * four}


def _prices(rng: Random) -> Values:
    low = rng.randint(2, 12)
    high = low + rng.randint(1, 8)
    cheap, dear = rng.randint(2, 30), rng.randint(2, 30)
    return {"low": low, "high": high, "count": cheap + dear, "total": low * cheap + high * dear}


def _contest(rng: Random) -> Values:
    gain, loss = rng.randint(3, 10), rng.randint(1, 5)
    right, wrong = rng.randint(6, 40), rng.randint(1, 12)
    return {"gain": gain, "loss": loss, "count": right + wrong, "score": right * gain - wrong * loss}


ANIMALS: Final = Form(
    draw=_animals,
    words=(
        Words(
            ("place", "few", "many"),
            (
                ("笼子里", "鸡", "兔"),
                ("笼子里", "鸡", "兔子"),
                ("农场里", "鸭", "羊"),
                ("院子里", "鹅", "小狗"),
                ("池塘边", "鹤", "乌龟"),
                ("农家小院里", "鸡", "小猫"),
            ),
        ),
    ),
    stories=(
        "{place}有{few}和{many}共{heads}只，[一共有|共有]{legs}条腿。",
        "{place}养着一些{few}和{many}，数一数，头有{heads}个，腿有{legs}条。",
        "{few}和{many}[关在一起|养在一起]，从上面数有{heads}个头，从下面数有{legs}条腿。",
        "{who}数{place}的{few}和{many}，共数出{legs}条腿、{heads}个头。",
        "{few}、{many}一共{heads}只，它们的腿加起来是{legs}条。",
        "已知{place}{few}和{many}的腿共有{legs}条，头共有{heads}个，[求|问]{ask}",
    ),
    held_out=(
        "有{heads}只动物待在{place}，不是{few}就是{many}，{who}数出它们[一共有|总共有]{legs}条腿。",
        "{place}的{few}和{many}合起来有{legs}条腿，[又知道|已知]它们的总只数是{heads}。",
    ),
    questions=(
        Question("{few}有[多少|几]只？", "({heads}*4-{legs})/(4-2)"),
        Question("{many}有[多少|几]只？", "({legs}-{heads}*2)/(4-2)"),
    ),
)

PRICES: Final = Form(
    draw=_prices,
    words=(
        Words(
            ("thing", "unit"),
            (("邮票", "张"), ("门票", "张"), ("笔记本", "本"), ("圆珠笔", "支"), ("贺卡", "张")),
        ),
    ),
    stories=(
        "{who}买了{low}元和{high}元的{thing}共{count}{unit}，一共花了{total}元。",
        "有{low}元和{high}元两种{thing}，{who}共买了{count}{unit}，[用去|付了]{total}元。",
        "{who}用{total}元买了{count}{unit}{thing}，便宜的每{unit}{low}元，贵的每{unit}{high}元。",
    ),
    held_out=(
        "商店里的{thing}分两种，便宜的{low}元一{unit}，贵的{high}元一{unit}，"
        "{who}一共拿了{count}{unit}，结账时正好是{total}元。",
    ),
    questions=(
        Question("便宜的{thing}买了[多少|几]{unit}？", "({count}*{high}-{total})/({high}-{low})"),
        Question("贵的{thing}买了[多少|几]{unit}？", "({total}-{count}*{low})/({high}-{low})"),
    ),
)

CONTEST: Final = Form(
    draw=_contest,
    words=(Words(("contest",), (("数学竞赛",), ("知识竞赛",), ("安全知识抢答赛",), ("趣味答题比赛",))),),
    stories=(
        "[一次|某次]{contest}共有{count}道题，做对一道得{gain}分，做错一道扣{loss}分，"
        "{who}全部做完，得了{score}分。",
        "{who}参加{contest}，{count}道题都答了，[最后|结果]得{score}分。评分规则是答对一题得{gain}分，答错一题倒扣{loss}分。",
        "{contest}规定：每做对一题加{gain}分，每做错一题减{loss}分。{who}做了全部{count}道题，总分是{score}分。",
    ),
    held_out=(
        "{who}在{contest}中拿到{score}分。这次比赛有{count}道题，{who}每题都作答，对一题记{gain}分，错一题扣去{loss}分。",
    ),
    questions=(
        Question("{who}做对了[多少|几]道题？", "({score}+{count}*{loss})/({gain}+{loss})"),
        Question("{who}做错了[多少|几]道题？", "({count}*{gain}-{score})/({gain}+{loss})"),
    ),
)

CHICKENS: Final = Kind("鸡兔同笼", "chickens and rabbits", (ANIMALS, PRICES, CONTEST))
