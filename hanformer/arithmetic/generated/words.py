"""Words and sentences that every kind of generated problem shares.

各题型共用的人名与无关句。
"""

from __future__ import annotations

from itertools import permutations
from typing import Final

from hanformer.arithmetic.generated.kinds import Words

NAMES: Final = (
    "小明",
    "小红",
    "小华",
    "小丽",
    "小刚",
    "小芳",
    "小军",
    "小林",
    "晓东",
    "佳佳",
    "乐乐",
    "婷婷",
)

PEOPLE: Final = Words(("who", "other"), tuple(permutations(NAMES, 2)))
"""``{who}`` and ``{other}`` can be used in every template."""

GOODS: Final = Words(
    ("thing", "unit"),
    (
        ("钢笔", "支"),
        ("笔记本", "本"),
        ("故事书", "本"),
        ("足球", "个"),
        ("书包", "个"),
        ("毛巾", "条"),
        ("水杯", "个"),
    ),
)

ASIDES: Final = (
    "[这天天气很好|这一天阳光明媚|这天刚下过一场小雨]。",
    "[这是一件真实的事情|这是数学课上的一个例子]。",
    "{other}对这件事很感兴趣。",
    "{other}家住在{noise}号楼。",
    "{other}昨天读了{noise}页课外书。",
    "{other}在旁边等了{noise}分钟。",
    "{other}的学号是{noise}号。",
    "{other}收集了{noise}枚贝壳。",
)
"""Sentences without bearing on any answer; ``{noise}`` is a number that no equation uses."""
