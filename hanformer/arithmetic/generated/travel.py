"""Travel: one traveller, two who meet, one who catches up.

行程问题：单程、相遇、追及。
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

_VEHICLE: Final = Words(
    ("vehicle", "moves"),
    (
        ("一辆汽车", "行驶"),
        ("一列火车", "行驶"),
        ("一辆客车", "行驶"),
        ("一辆摩托车", "行驶"),
        ("一艘轮船", "航行"),
        ("一辆货车", "行驶"),
    ),
)
_PLACES: Final = Words(
    ("start", "goal"),
    (("甲地", "乙地"), ("A地", "B地"), ("东城", "西城"), ("甲城", "乙城"), ("县城", "省城")),
)
_PAIR: Final = Words(
    ("first", "second"),
    (("客车", "货车"), ("快车", "慢车"), ("甲车", "乙车"), ("小轿车", "大客车"), ("摩托车", "卡车")),
)
_ASIDES: Final = ("车上[坐着|载着]{noise}名乘客。", "路边有{noise}棵大树。", "路面[十分平坦|刚刚修好]。")


def _trip(rng: Random) -> Values:
    return {"speed": between(rng, (20, 60), (40, 120)), "hours": maybe_decimal(rng, 2, 12)}


def _distance_time(rng: Random) -> Values:
    trip = _trip(rng)
    return {"distance": shown(exact(trip["speed"]) * exact(trip["hours"])), "hours": trip["hours"]}


def _distance_speed(rng: Random) -> Values:
    trip = _trip(rng)
    return {"distance": shown(exact(trip["speed"]) * exact(trip["hours"])), "speed": trip["speed"]}


def _again(rng: Random) -> Values:
    return {**_trip(rng), "back": maybe_decimal(rng, 2, 12)}


def _bridge(rng: Random) -> Values:
    speed, seconds, train = rng.randint(12, 45), rng.randint(20, 90), rng.randint(8, 40) * 10
    return {"bridge": speed * seconds - train, "train": train, "speed": speed}


def _river(rng: Random) -> Values:
    return {"still": rng.randint(12, 40), "stream": rng.randint(1, 9), "hours": maybe_decimal(rng, 2, 12)}


def _two(rng: Random) -> Values:
    fast, slow = between(rng, (40, 80), (50, 120)), between(rng, (30, 60), (40, 90))
    return {"fast": fast, "slow": slow, "hours": maybe_decimal(rng, 2, 9)}


def _apart(rng: Random) -> Values:
    values = _two(rng)
    speed = exact(values["fast"]) + exact(values["slow"])
    return {**values, "distance": shown(speed * exact(values["hours"]))}


def _chase(rng: Random) -> Values:
    slow = between(rng, (30, 60), (40, 80))
    fast = slow + rng.randint(2, 40)
    return {"fast": fast, "slow": slow, "gap": (fast - slow) * rng.randint(2, 12)}


def _run(rng: Random) -> Values:
    slow, faster = rng.randint(3, 6), rng.randint(1, 3)
    return {"fast": slow + faster, "slow": slow, "gap": faster * rng.randint(5, 90)}


def _head_start(rng: Random) -> Values:
    slow, head = between(rng, (30, 60), (40, 80)), rng.randint(2, 6)
    return {"fast": slow + rng.randint(2, 40), "slow": slow, "head": head}


DISTANCE: Final = Form(
    draw=_trip,
    words=(_VEHICLE, _PLACES),
    stories=(
        "{vehicle}每小时{moves}{speed}千米，从{start}到{goal}用了{hours}小时，",
        "{vehicle}从{start}开往{goal}，每小时行{speed}千米，{hours}小时到达，",
        "从{start}到{goal}，{vehicle}以每小时{speed}千米的速度{moves}了{hours}小时，",
    ),
    held_out=("{vehicle}的时速是{speed}千米，离开{start}{hours}小时后抵达{goal}，",),
    questions=(
        Question(
            "[{start}到{goal}有|{start}和{goal}相距|{start}与{goal}之间的路程是]多少千米？",
            "{speed}*{hours}",
            "decimal",
        ),
    ),
)

SPEED: Final = Form(
    draw=_distance_time,
    words=(_VEHICLE, _PLACES),
    stories=(
        "{start}到{goal}的路程是{distance}千米，{vehicle}{hours}小时行完全程，",
        "{vehicle}从{start}开往{goal}，用{hours}小时行了{distance}千米，",
    ),
    held_out=("{vehicle}花了{hours}小时走完{start}与{goal}之间{distance}千米的路，",),
    questions=(Question("平均每小时[行|{moves}]多少千米？", "{distance}/{hours}"),),
)

TIME: Final = Form(
    draw=_distance_speed,
    words=(_VEHICLE, _PLACES),
    stories=(
        "{start}到{goal}的路程是{distance}千米，{vehicle}每小时行{speed}千米，",
        "{vehicle}从{start}开往{goal}，每小时{moves}{speed}千米，两地相距{distance}千米，",
    ),
    held_out=("{vehicle}以{speed}千米每小时的速度走{start}与{goal}之间{distance}千米的路，",),
    questions=(Question("[多少小时|几小时]可以[行完全程|到达{goal}]？", "{distance}/{speed}", "decimal"),),
)

RETURN: Final = Form(
    draw=_again,
    words=(_VEHICLE, _PLACES),
    stories=(
        "{vehicle}从{start}到{goal}每小时{moves}{speed}千米，{hours}小时到达，返回时用了{back}小时，",
        "{vehicle}从{start}开往{goal}，每小时行{speed}千米，用了{hours}小时。原路返回时用了{back}小时，",
    ),
    held_out=(
        "去{goal}时{vehicle}的速度是每小时{speed}千米，路上用{hours}小时；回{start}的路上用{back}小时，",
    ),
    questions=(Question("返回时平均每小时行多少千米？", "{speed}*{hours}/{back}", "decimal"),),
)

BRIDGE: Final = Form(
    draw=_bridge,
    words=(Words(("way",), (("大桥",), ("隧道",), ("山洞",))),),
    stories=(
        "一列长{train}米的火车，以每秒{speed}米的速度通过一座长{bridge}米的{way}，",
        "一座{way}长{bridge}米，一列火车长{train}米，每秒行{speed}米，",
    ),
    held_out=("{way}的长度是{bridge}米。一列每秒行驶{speed}米的火车要完全穿过它，车身长{train}米，",),
    questions=(
        Question("火车[完全通过|从车头进入到车尾离开]{way}[要|需要]多少秒？", "({bridge}+{train})/{speed}"),
    ),
)

RIVER: Final = Form(
    draw=_river,
    words=(Words(("boat",), (("一艘轮船",), ("一只小船",), ("一艘游船",), ("一条货船",))),),
    stories=(
        "{boat}在静水中每小时行{still}千米，水流速度是每小时{stream}千米，",
        "水流的速度是每小时{stream}千米，{boat}的静水速度是每小时{still}千米，",
    ),
    held_out=("河水每小时流{stream}千米，{boat}在不流动的水里每小时能走{still}千米，",),
    questions=(
        Question(
            "[顺水|顺流]航行{hours}小时，[可以行|能行]多少千米？", "({still}+{stream})*{hours}", "decimal"
        ),
        Question(
            "[逆水|逆流]航行{hours}小时，[可以行|能行]多少千米？", "({still}-{stream})*{hours}", "decimal"
        ),
    ),
)

TRAVEL: Final = Kind("行程", "travel", (DISTANCE, SPEED, TIME, RETURN, BRIDGE, RIVER), asides=_ASIDES[1:])

MEET_DISTANCE: Final = Form(
    draw=_two,
    words=(_PAIR, _PLACES),
    stories=(
        "{first}和{second}同时从{start}和{goal}[相对开出|相向而行]，{first}每小时行{fast}千米，"
        "{second}每小时行{slow}千米，{hours}小时后相遇，",
        "{first}从{start}、{second}从{goal}同时出发，相向而行，经过{hours}小时相遇。{first}每小时行{fast}千米，"
        "{second}每小时行{slow}千米，",
    ),
    held_out=(
        "{first}以每小时{fast}千米的速度离开{start}，同一时刻{second}以每小时{slow}千米的速度离开{goal}迎面驶来，"
        "{hours}小时后碰面，",
    ),
    questions=(
        Question(
            "[{start}和{goal}相距|{start}到{goal}有|两地相距]多少千米？", "({fast}+{slow})*{hours}", "decimal"
        ),
        Question("相遇时{first}行了多少千米？", "{fast}*{hours}", "decimal"),
    ),
)

MEET_TIME: Final = Form(
    draw=_apart,
    words=(_PAIR, _PLACES),
    stories=(
        "{start}和{goal}相距{distance}千米，{first}和{second}同时从两地相对开出，{first}每小时行{fast}千米，"
        "{second}每小时行{slow}千米，",
        "{first}每小时行{fast}千米，{second}每小时行{slow}千米，它们同时从相距{distance}千米的{start}和{goal}相向而行，",
    ),
    held_out=(
        "{start}与{goal}间的公路长{distance}千米，{first}（时速{fast}千米）和{second}（时速{slow}千米）各从一端同时出发，",
    ),
    questions=(
        Question("[几小时后|经过多少小时][相遇|两车相遇]？", "{distance}/({fast}+{slow})", "decimal"),
    ),
)

MEET_SPEED: Final = Form(
    draw=_apart,
    words=(_PAIR, _PLACES),
    stories=(
        "{start}和{goal}相距{distance}千米，{first}和{second}同时从两地相对开出，{hours}小时相遇，{first}每小时行{fast}千米，",
        "{first}和{second}同时从相距{distance}千米的{start}和{goal}相向而行，{first}每小时行{fast}千米，"
        "经过{hours}小时相遇，",
    ),
    held_out=(
        "{first}与{second}从{distance}千米长的公路两端同时迎面开来，{hours}小时碰面，{first}的时速是{fast}千米，",
    ),
    questions=(Question("{second}每小时行多少千米？", "{distance}/{hours}-{fast}"),),
)

MEETING: Final = Kind("相遇", "meeting", (MEET_DISTANCE, MEET_TIME, MEET_SPEED), asides=_ASIDES)

CHASE: Final = Form(
    draw=_chase,
    words=(_PAIR,),
    stories=(
        "{second}在{first}前面{gap}千米，两车同时同向出发，{first}每小时行{fast}千米，{second}每小时行{slow}千米，",
        "{first}和{second}相距{gap}千米，同时朝同一方向行驶，{second}在前，每小时行{slow}千米，{first}在后，每小时行{fast}千米，",
        "{first}每小时行{fast}千米，{second}每小时行{slow}千米。{second}在前面{gap}千米处，两车同时向同一方向开出，",
    ),
    held_out=(
        "{first}要追赶前方{gap}千米处的{second}，{second}以每小时{slow}千米的速度前进，{first}的速度是每小时{fast}千米，",
    ),
    questions=(Question("{first}[多少小时|几小时]后追上{second}？", "{gap}/({fast}-{slow})"),),
)

HEAD_START: Final = Form(
    draw=_head_start,
    words=(_PAIR, _PLACES),
    stories=(
        "{second}从{start}出发，每小时行{slow}千米，{head}小时后，{first}从同一地点出发去追，每小时行{fast}千米，",
        "{second}先开出{head}小时，每小时行{slow}千米，{first}随后从同一地点沿同一路线追赶，每小时行{fast}千米，",
        "{first}每小时行{fast}千米，{second}每小时行{slow}千米，{second}从{start}先出发{head}小时后，{first}才从{start}出发去追，",
    ),
    held_out=(
        "{second}离开{start}{head}小时后，{first}才动身去追。已知{second}的时速为{slow}千米，{first}的时速为{fast}千米，",
    ),
    questions=(
        Question("{first}[多少小时|几小时]可以追上{second}？", "{slow}*{head}/({fast}-{slow})", "decimal"),
        Question("{first}出发时，{second}已经行了多少千米？", "{slow}*{head}", "decimal"),
    ),
)

RUNNERS: Final = Form(
    draw=_run,
    stories=(
        "{who}在{other}前面{gap}米处，{who}每秒跑{slow}米，{other}每秒跑{fast}米，两人同时同向起跑，",
        "{who}和{other}同时向同一方向跑步，{other}在{who}后面{gap}米，{other}每秒跑{fast}米，{who}每秒跑{slow}米，",
    ),
    held_out=(
        "{other}落后{who}{gap}米，{other}的速度是每秒{fast}米，{who}的速度是每秒{slow}米，两人一直向前跑，",
    ),
    questions=(Question("{other}[多少秒|几秒]后追上{who}？", "{gap}/({fast}-{slow})"),),
)

CATCHING: Final = Kind("追及", "catching up", (CHASE, HEAD_START, RUNNERS), asides=_ASIDES[1:])
