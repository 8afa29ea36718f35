"""One step: one addition, subtraction, multiplication or division.

一步应用题：一次加、减、乘或除即可解答。
"""

from __future__ import annotations

from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Kind, Question
from hanformer.arithmetic.generated.one_step_products import (
    BOUGHT,
    DAYS,
    GROUPED,
    HOW_MANY_TIMES,
    PACE,
    PACKED,
    PER_DAY,
    SHARED,
    TIMES,
)
from hanformer.arithmetic.generated.one_step_words import (
    FOODS,
    JOBS,
    PAIRS,
    STOCKS,
    THINGS,
    draw_difference,
    draw_meal,
    draw_sum,
)

# ---------------------------------------------------------------- addition

TOGETHER: Final = Form(
    draw=draw_sum,
    words=(THINGS,),
    stories=(
        "{who}有{some}{unit}{thing}，{other}有{more}{unit}[{thing}|]，[两人|他们]",
        "{who}和{other}各有一些{thing}，{who}有{some}{unit}，{other}有{more}{unit}，[两人|他们]",
        "左边有{some}{unit}{thing}，右边有{more}{unit}[{thing}|]，",
        "第一个盒子里有{some}{unit}{thing}，第二个盒子里有{more}{unit}，",
        "{who}上午买了{some}{unit}{thing}，下午买了{more}{unit}，",
        "桌上有{some}{unit}{thing}，篮子里有{more}{unit}[{thing}|]，",
    ),
    held_out=(
        "{who}拿来{some}{unit}{thing}，{other}拿来{more}{unit}，",
        "哥哥有{some}{unit}{thing}，弟弟有{more}{unit}，兄弟俩",
    ),
    questions=(Question("[一共|总共|合起来]有[几|多少]{unit}[{thing}|]？", "{some}+{more}"),),
)

COME: Final = Form(
    draw=draw_sum,
    words=(THINGS,),
    stories=(
        "{some}{unit}{thing}又买来{more}{unit}，",
        "{who}有{some}{unit}{thing}，[又买来|又买了]{more}{unit}，",
        "{who}[原来|原先]有{some}{unit}{thing}，妈妈又给了{more}{unit}，",
        "盒子里有{some}{unit}{thing}，又[放进|放入]{more}{unit}，",
        "{who}已经有{some}{unit}{thing}，{other}又送来{more}{unit}，",
        "桌上有{some}{unit}{thing}，{who}又[拿来|放上]{more}{unit}，",
    ),
    held_out=(
        "{who}本来有{some}{unit}{thing}，后来又得到{more}{unit}，",
        "篮子里装着{some}{unit}{thing}，再装进去{more}{unit}，",
    ),
    questions=(Question("[一共|现在|现在一共]有[几|多少]{unit}[{thing}|]？", "{some}+{more}"),),
)

STOCKED: Final = Form(
    draw=draw_sum,
    words=(STOCKS,),
    stories=(
        "{place}有{some}{unit}{thing}，又{come}{more}{unit}，{ask}",
        "{place}原来有{some}{unit}{thing}，今天{come}{more}{unit}，{ask}",
        "{place}有{thing}{some}{unit}，昨天又{come}{more}{unit}，{ask}",
        "{place}里有{some}{unit}{thing}，再{come}{more}{unit}，{ask}",
        "{place}原有{thing}{some}{unit}，{come}{more}{unit}后，{ask}",
        "{place}已有{some}{unit}{thing}，这次又{come}{more}{unit}，{ask}",
    ),
    held_out=(
        "{place}本来有{thing}{some}{unit}，后来又{come}{more}{unit}，{ask}",
        "{place}先{come}{some}{unit}{thing}，接着又{come}{more}{unit}，{ask}",
    ),
    questions=(Question("[一共|现在|总共]有多少{unit}[{thing}|]？", "{some}+{more}"),),
)

MORE_THAN: Final = Form(
    draw=draw_sum,
    words=(PAIRS,),
    stories=(
        "{second}{some}{unit}，{first}比{second}多{more}{unit}，",
        "{second}有{some}{unit}，{first}比{second}多{more}{unit}，",
        "有{some}{unit}{second}，{first}比{second}多{more}{unit}，",
        "{first}比{second}多{more}{unit}，{second}有{some}{unit}，",
        "{second}有{some}{unit}，比{first}少{more}{unit}，",
        "这里有{second}{some}{unit}，{second}比{first}少{more}{unit}，",
    ),
    held_out=(
        "已知{second}是{some}{unit}，{first}又比{second}多出{more}{unit}，",
        "{second}比{first}少{more}{unit}，已知{second}是{some}{unit}，",
    ),
    questions=(Question("{first}有[几|多少]{unit}？", "{some}+{more}"),),
)

BEFORE_GIVING: Final = Form(
    draw=draw_sum,
    words=(THINGS,),
    stories=(
        "{who}[送给|给了]{other}{more}{unit}{thing}，还剩{some}{unit}，{who}",
        "{who}有一些{thing}，[送给|给了]{other}{more}{unit}后还剩{some}{unit}，{who}",
        "盒子里有一些{thing}，拿走{more}{unit}，还剩{some}{unit}，盒子里",
        "{who}分给同学{more}{unit}{thing}，自己还剩{some}{unit}，{who}",
        "桌上的{thing}拿走{more}{unit}后还有{some}{unit}，桌上",
        "一些{thing}，拿走{more}{unit}，还剩{some}{unit}，",
    ),
    held_out=(
        "{who}把{more}{unit}{thing}送人以后，手里还有{some}{unit}，{who}",
        "篮子里的{thing}少了{more}{unit}，只剩{some}{unit}，篮子里",
    ),
    questions=(Question("[原来|原先]有[几|多少]{unit}[{thing}|]？", "{some}+{more}"),),
)

# ---------------------------------------------------------------- subtraction

EATEN: Final = Form(
    draw=draw_meal,
    words=(FOODS,),
    stories=(
        "{who}有{whole}{unit}{thing}，吃了{part}{unit}，",
        "{whole}{unit}{thing}，吃了{part}{unit}，",
        "盘子里有{whole}{unit}{thing}，[吃了|吃掉]{part}{unit}，",
        "妈妈买来{whole}{unit}{thing}，[{who}|全家]吃了{part}{unit}，",
        "{who}有{thing}{whole}{unit}，吃掉{part}{unit}，",
        "桌上有{whole}{unit}{thing}，{who}吃了{part}{unit}，",
    ),
    held_out=(
        "家里有{whole}{unit}{thing}，已经吃去{part}{unit}，",
        "{who}本来有{whole}{unit}{thing}，后来吃掉了{part}{unit}，",
    ),
    questions=(Question("[还剩|还剩下|还有][几|多少]{unit}[{thing}|]？", "{whole}-{part}"),),
)

GIVEN: Final = Form(
    draw=draw_difference,
    words=(THINGS,),
    stories=(
        "{who}有{whole}{unit}{thing}，[送给|给了]{other}{part}{unit}，{ask}",
        "{who}[原来|]有{whole}{unit}{thing}，送给同学{part}{unit}，{ask}",
        "盒子里有{whole}{unit}{thing}，[拿走|拿出]{part}{unit}，盒子里{ask}",
        "{whole}{unit}{thing}，拿走{part}{unit}，{ask}",
        "{who}买来{whole}{unit}{thing}，[分给|送给]{other}{part}{unit}，{who}{ask}",
        "桌上有{thing}{whole}{unit}，{who}拿走了{part}{unit}，桌上{ask}",
    ),
    held_out=(
        "{who}从自己的{whole}{unit}{thing}里拿出{part}{unit}给{other}，{who}{ask}",
        "篮子里装着{whole}{unit}{thing}，取出{part}{unit}以后，{ask}",
    ),
    questions=(Question("[还剩|还剩下|还有][几|多少]{unit}[{thing}|]？", "{whole}-{part}"),),
)

SOLD: Final = Form(
    draw=draw_difference,
    words=(STOCKS,),
    stories=(
        "{place}有{whole}{unit}{thing}，{go}{part}{unit}，",
        "{place}[原来有|原有]{whole}{unit}{thing}，{go}了{part}{unit}，",
        "{place}有{thing}{whole}{unit}，今天{go}{part}{unit}，",
        "{place}{come}{whole}{unit}{thing}，{go}{part}{unit}，",
        "{place}里有{whole}{unit}{thing}，已经{go}{part}{unit}，",
        "{place}原有{thing}{whole}{unit}，{go}{part}{unit}后，",
    ),
    held_out=(
        "{place}本来有{thing}{whole}{unit}，昨天{go}了{part}{unit}，",
        "{place}的{whole}{unit}{thing}中，{go}的有{part}{unit}，",
    ),
    questions=(Question("[还剩|还剩下|还有]多少{unit}[{thing}|]？", "{whole}-{part}"),),
)

UNFINISHED: Final = Form(
    draw=draw_difference,
    words=(JOBS,),
    stories=(
        "{job}{whole}{unit}，{do}了{part}{unit}，",
        "{job}[有|共|一共有]{whole}{unit}，已经{do}了{part}{unit}，",
        "{job}共{whole}{unit}，第一天{do}了{part}{unit}，",
        "有{job}，共{whole}{unit}，{do}了{part}{unit}，",
        "{job}有{whole}{unit}，上午{do}了{part}{unit}，",
        "{job}一共{whole}{unit}，现在{do}了{part}{unit}，",
    ),
    held_out=(
        "{job}总共{whole}{unit}，到今天已{do}{part}{unit}，",
        "要{do}{job}，全部是{whole}{unit}，其中{part}{unit}已经{do}完，",
    ),
    questions=(Question("[还剩|还有|还剩下]多少{unit}[没{do}|没有{do}]？", "{whole}-{part}"),),
)

COMPARED: Final = Form(
    draw=draw_difference,
    words=(PAIRS,),
    stories=(
        "{first}{whole}{unit}，{second}{part}{unit}，",
        "{first}有{whole}{unit}，{second}有{part}{unit}，",
        "有{whole}{unit}{first}，{part}{unit}{second}，",
        "有{first}{whole}{unit}，{second}{part}{unit}，",
        "{second}有{part}{unit}，{first}有{whole}{unit}，",
        "这里有{whole}{unit}{first}和{part}{unit}{second}，",
    ),
    held_out=(
        "数一数，{first}是{whole}{unit}，{second}是{part}{unit}，",
        "已知{second}共{part}{unit}，{first}共{whole}{unit}，",
    ),
    questions=(
        Question("{first}比{second}多[几|多少]{unit}？", "{whole}-{part}"),
        Question("{second}比{first}少[几|多少]{unit}？", "{whole}-{part}"),
    ),
)

OWNERS: Final = Form(
    draw=draw_difference,
    words=(THINGS,),
    stories=(
        "{who}有{whole}{unit}{thing}，{other}有{part}{unit}[{thing}|]，",
        "{other}有{part}{unit}{thing}，{who}有{whole}{unit}[{thing}|]，",
        "{who}买了{whole}{unit}{thing}，{other}买了{part}{unit}，",
        "{who}有{thing}{whole}{unit}，{other}有{thing}{part}{unit}，",
        "{who}[得到|分到]{whole}{unit}{thing}，{other}[得到|分到]{part}{unit}，",
        "{who}拿了{whole}{unit}{thing}，{other}拿了{part}{unit}，",
    ),
    held_out=(
        "{who}手里有{whole}{unit}{thing}，{other}手里有{part}{unit}，",
        "老师奖给{who}{whole}{unit}{thing}，奖给{other}{part}{unit}，",
    ),
    questions=(
        Question("{who}比{other}多[几|多少]{unit}？", "{whole}-{part}"),
        Question("{other}比{who}少[几|多少]{unit}？", "{whole}-{part}"),
    ),
)

LESS_THAN: Final = Form(
    draw=draw_difference,
    words=(PAIRS,),
    stories=(
        "{first}{whole}{unit}，{second}比{first}少{part}{unit}，",
        "{first}有{whole}{unit}，{second}比{first}少{part}{unit}，",
        "有{whole}{unit}{first}，{second}比{first}少{part}{unit}，",
        "{second}比{first}少{part}{unit}，{first}有{whole}{unit}，",
        "{first}有{whole}{unit}，比{second}多{part}{unit}，",
        "{first}和{second}一共有{whole}{unit}，其中{first}有{part}{unit}，",
    ),
    held_out=(
        "已知{first}是{whole}{unit}，{first}比{second}多出{part}{unit}，",
        "{first}和{second}合起来是{whole}{unit}，{first}占了{part}{unit}，",
    ),
    questions=(Question("{second}有[几|多少]{unit}？", "{whole}-{part}"),),
)

BEFORE_GETTING: Final = Form(
    draw=draw_difference,
    words=(THINGS,),
    stories=(
        "{who}又买来{part}{unit}{thing}，现在有{whole}{unit}，{who}",
        "{who}有一些{thing}，又买了{part}{unit}后有{whole}{unit}，{who}",
        "盒子里放进{part}{unit}{thing}后有{whole}{unit}，盒子里",
        "{other}送给{who}{part}{unit}{thing}，{who}现在[一共|]有{whole}{unit}，{who}",
        "{who}现在有{whole}{unit}{thing}，其中{part}{unit}是{other}刚送的，{who}",
        "桌上有一些{thing}，又放上{part}{unit}，现在有{whole}{unit}，桌上",
    ),
    held_out=(
        "{who}得到{part}{unit}{thing}以后，手里共有{whole}{unit}，{who}",
        "篮子里多了{part}{unit}{thing}，变成{whole}{unit}，篮子里",
    ),
    questions=(Question("[原来|原先]有[几|多少]{unit}[{thing}|]？", "{whole}-{part}"),),
)

ONE_STEP: Final = Kind(
    "一步",
    "one step",
    (
        *(TOGETHER, COME, STOCKED, MORE_THAN, BEFORE_GIVING),
        *(EATEN, GIVEN, SOLD, UNFINISHED, COMPARED, OWNERS, LESS_THAN, BEFORE_GETTING),
        *(BOUGHT, PACKED, PACE, TIMES),
        *(SHARED, GROUPED, DAYS, PER_DAY, HOW_MANY_TIMES),
    ),
)
