"""One-step problems of multiplication and division. 一步应用题：乘法与除法。"""

from __future__ import annotations

from typing import Final

from hanformer.arithmetic.generated.kinds import Form, Question, Words
from hanformer.arithmetic.generated.one_step_words import (
    JOBS,
    MOVERS,
    PACKS,
    PAIRS,
    THINGS,
    draw_product,
    draw_quotient,
)
from hanformer.arithmetic.generated.words import GOODS

# ---------------------------------------------------------------- multiplication

BOUGHT: Final = Form(
    draw=draw_product,
    words=(Words(GOODS.fields, (("铅笔", "支"), ("橡皮", "块"), *GOODS.rows)),),
    stories=(
        "{count}{unit}{thing}每{unit}{each}元，",
        "{thing}每{unit}{each}元，[买|]{count}{unit}",
        "{who}买了{count}{unit}{thing}，每{unit}{each}元，",
        "每{unit}{thing}{each}元，{who}买{count}{unit}，",
        "一{unit}{thing}{each}元，[买|]{count}{unit}[{thing}|]",
        "{who}要买{count}{unit}{thing}，{thing}的单价是每{unit}{each}元，",
    ),
    held_out=(
        "{thing}{each}元一{unit}，{who}拿了{count}{unit}，",
        "{who}看中一种{thing}，每{unit}卖{each}元，买{count}{unit}",
    ),
    questions=(Question("[一共|一共要|总共要|需要|要付]多少元？", "{each}*{count}"),),
)

PACKED: Final = Form(
    draw=draw_product,
    words=(PACKS,),
    stories=(
        "每{pack}{thing}有{each}{unit}，{count}{pack}",
        "一{pack}{thing}有{each}{unit}，{count}{pack}",
        "有{count}{pack}{thing}，每{pack}{each}{unit}，",
        "{count}{pack}{thing}，每{pack}{each}{unit}，",
        "{who}买了{count}{pack}{thing}，每{pack}有{each}{unit}，",
        "每{pack}[放|装]{each}{unit}{thing}，{count}{pack}",
    ),
    held_out=(
        "{thing}{each}{unit}一{pack}，现有{count}{pack}，",
        "{who}带来{count}{pack}{thing}，一{pack}正好{each}{unit}，",
    ),
    questions=(Question("[一共|总共|共]有[几|多少]{unit}[{thing}|]？", "{each}*{count}"),),
)

PACE: Final = Form(
    draw=draw_product,
    words=(MOVERS,),
    stories=(
        "{maker}每{time}{do}{each}{unit}，",
        "{maker}平均每{time}{do}{each}{unit}，",
        "{maker}{do}，每{time}{each}{unit}，",
        "{maker}一{time}{do}{each}{unit}，",
        "{maker}在一{time}里{do}{each}{unit}，",
        "已知{maker}每{time}{do}{each}{unit}，",
    ),
    held_out=("{maker}{do}的速度是每{time}{each}{unit}，", "{maker}每过一{time}就{do}{each}{unit}，"),
    questions=(Question("{count}{time}[可以|能|一共|]{do}多少{unit}？", "{each}*{count}"),),
)

TIMES: Final = Form(
    draw=draw_product,
    words=(PAIRS,),
    stories=(
        "{second}{each}{unit}，{first}是{second}的{count}倍，",
        "{second}有{each}{unit}，{first}的数量是{second}的{count}倍，",
        "有{each}{unit}{second}，{first}是{second}的{count}倍，",
        "{first}是{second}的{count}倍，{second}有{each}{unit}，",
        "有{second}{each}{unit}，{first}的数量是它的{count}倍，",
        "{second}有{each}{unit}，{first}有{second}的{count}倍那么多，",
    ),
    held_out=(
        "已知{second}是{each}{unit}，{first}正好是它的{count}倍，",
        "{first}的数量等于{second}的{count}倍，{second}共{each}{unit}，",
    ),
    questions=(Question("{first}有[几|多少]{unit}？", "{each}*{count}"),),
)

# ---------------------------------------------------------------- division

SHARED: Final = Form(
    draw=draw_quotient,
    words=(THINGS,),
    stories=(
        "{total}{unit}{thing}平均分给{by}人，",
        "{total}{unit}{thing}平均分给{by}个[小朋友|同学|人]，",
        "把{total}{unit}{thing}平均分给{by}个[小朋友|同学|人]，",
        "{who}有{total}{unit}{thing}，平均分给{by}个[小朋友|同学|人]，",
        "老师把{total}{unit}{thing}平均分给{by}名学生，",
        "有{total}{unit}{thing}，{by}个人平均分，",
    ),
    held_out=(
        "{by}个小朋友平分{total}{unit}{thing}，",
        "妈妈拿出{total}{unit}{thing}，平均分成{by}份，每人一份，",
    ),
    questions=(
        Question("[每人|每人分|每人分到|每人分得|平均每人][几|多少]{unit}[{thing}|]？", "{total}/{by}"),
    ),
)

GROUPED: Final = Form(
    draw=draw_quotient,
    words=(PACKS,),
    stories=(
        "{total}{unit}{thing}，每{pack}{by}{unit}，",
        "有{total}{unit}{thing}，每{pack}[放|装]{by}{unit}，",
        "{who}有{total}{unit}{thing}，每{by}{unit}一{pack}，",
        "把{total}{unit}{thing}每{by}{unit}分成一{pack}，",
        "一共有{total}{unit}{thing}，{by}{unit}一{pack}，",
        "每{pack}{by}{unit}，{total}{unit}{thing}",
    ),
    held_out=(
        "{total}{unit}{thing}要分开放，一{pack}只放{by}{unit}，",
        "按每{pack}{by}{unit}来分，现有{total}{unit}{thing}，",
    ),
    questions=(Question("[可以|能|一共可以]分成[几|多少]{pack}？", "{total}/{by}"),),
)

DAYS: Final = Form(
    draw=draw_quotient,
    words=(JOBS,),
    stories=(
        "{job}{total}{unit}，每天{do}{by}{unit}，",
        "{job}有{total}{unit}，[平均每天|每天]{do}{by}{unit}，",
        "{job}[共|一共]{total}{unit}，每天{do}{by}{unit}，",
        "有{job}，共{total}{unit}，如果每天{do}{by}{unit}，",
        "{job}一共有{total}{unit}，计划每天{do}{by}{unit}，",
        "每天{do}{by}{unit}，{job}有{total}{unit}，",
    ),
    held_out=(
        "{job}总共{total}{unit}，要是一天{do}{by}{unit}，",
        "要{do}{job}，全部是{total}{unit}，一天能{do}{by}{unit}，",
    ),
    questions=(
        Question("[几|多少]天[可以|能|]{do}完？", "{total}/{by}"),
        Question("[{do}完|全部{do}完][要|需要][几|多少]天？", "{total}/{by}"),
    ),
)

PER_DAY: Final = Form(
    draw=draw_quotient,
    words=(JOBS,),
    stories=(
        "{job}{total}{unit}，{by}天{do}完，",
        "{job}有{total}{unit}，{by}天[正好|刚好|]{do}完，",
        "{job}[共|一共]{total}{unit}，要{by}天{do}完，",
        "有{job}，共{total}{unit}，计划{by}天{do}完，",
        "{job}一共有{total}{unit}，用{by}天{do}完，",
        "{by}天{do}完{job}，一共{total}{unit}，",
    ),
    held_out=(
        "{job}总共{total}{unit}，打算在{by}天内平均{do}完，",
        "要{do}{job}，全部是{total}{unit}，限{by}天完成，",
    ),
    questions=(Question("[平均每天|平均一天][要|]{do}多少{unit}？", "{total}/{by}"),),
)

HOW_MANY_TIMES: Final = Form(
    draw=draw_quotient,
    words=(PAIRS,),
    stories=(
        "{first}{total}{unit}，{second}{by}{unit}，",
        "{first}有{total}{unit}，{second}有{by}{unit}，",
        "有{total}{unit}{first}，{by}{unit}{second}，",
        "{second}{by}{unit}，{first}{total}{unit}，",
        "{second}有{by}{unit}，{first}有{total}{unit}，",
        "这里有{total}{unit}{first}和{by}{unit}{second}，",
    ),
    held_out=(
        "数一数，{first}是{total}{unit}，{second}是{by}{unit}，",
        "已知{second}共{by}{unit}，{first}共{total}{unit}，",
    ),
    questions=(Question("{first}[的数量|]是{second}的[几|多少]倍？", "{total}/{by}"),),
)
