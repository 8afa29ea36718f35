"""Word problems in the project's own wording, without end and without files.

自编应用题生成器：题型、说法与数字皆由程序给出。
"""

from __future__ import annotations

from hanformer.arithmetic.generated.kinds import Form, Kind, Question, Words
from hanformer.arithmetic.generated.problems import (
    CONSTANTS,
    KINDS,
    SplitName,
    generate,
    is_reserved,
    kind_named,
    wordings,
)

__all__ = [
    "CONSTANTS",
    "KINDS",
    "Form",
    "Kind",
    "Question",
    "SplitName",
    "Words",
    "generate",
    "is_reserved",
    "kind_named",
    "wordings",
]
