"""Problems that stand in two data sets: told apart, so that a test never counts what training has seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from hanformer.arithmetic.records import Problem

_NUMBER = re.compile(r"\d+")


def signature(text: str) -> str:
    """A text without what data sets write differently: character width, case, spaces, punctuation.

    去除不同数据集的书写差异：全半角、大小写、空格与标点。
    """
    return "".join(
        character for character in unicodedata.normalize("NFKC", text).lower() if character.isalnum()
    )


def template(text: str) -> str:
    """`signature` with every number as `#`: the same for problems that differ in their numbers alone.

    把数替换为 # 的签名：仅数字不同的题目视为同一模板。
    """
    return _NUMBER.sub("#", signature(text))


def without_copies(
    problems: Iterable[Problem], others: Iterable[Problem], *, numbers_matter: bool = True
) -> list[Problem]:
    """The problems whose text does not stand among the others.

    去掉与另一数据集重复的题目。

    With `numbers_matter` false, a problem that differs from another in its numbers alone is a copy too.
    """
    key = signature if numbers_matter else template
    seen = {key(problem.text) for problem in others}
    return [problem for problem in problems if key(problem.text) not in seen]
