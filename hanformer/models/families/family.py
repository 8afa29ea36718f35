"""What a family is: the defaults that its published configs leave unsaid, its names, how it is recognised."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hanformer.config import APPLICATIONS, ModelConfig
from hanformer.errors import UserError
from hanformer.models.names import NameMap
from hanformer.weights.protocols import Source

#: Of a checkpoint: published names, and the raw config.
Names = frozenset[str]
Raw = Mapping[str, Any]

#: What training leaves in a checkpoint and a model has no use for.
TRAINING_LEFTOVERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"/adam_[mv](_\d+)?$",
        r"/Adam(_\d+)?$",
        r"/LAMB(_\d+)?$",
        r"_slot_",
        r"^(global_step|good_steps|loss_scale|beta[12]_power|bad_steps)$",
        r"(^|\.)position_ids$",
        r"(^|/)(ExponentialMovingAverage|lamb_[mv])$",
    )
)


def _unchanged(raw: Raw, dialect: str, source: Source) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Family:
    """One family of published models.

    一个已发布的模型家族。

    `words` are its other names: bert4keras' model words and transformers' model types. `defaults` are config
    values for what the published JSON leaves unsaid, `fixed` those that hold whatever it says; `reads` gives those
    that follow from the raw JSON, the dialect ("tensorflow", "transformers", ...) and the stored tensors. `names`
    gives the NameMap of a dialect for the names that are present (none when a model is saved); `recognises` looks at
    names and raw config. `exports` is the config.json that transformers reads.
    """

    name: str
    words: tuple[str, ...]
    defaults: Mapping[str, Any]
    names: Callable[[str, ModelConfig, Names], NameMap]
    recognises: Callable[[Names, Raw], bool]
    reads: Callable[[Raw, str, Source], Mapping[str, Any]] = _unchanged
    exports: Callable[[ModelConfig, tuple[str, ...]], dict[str, Any]] | None = None
    applications: tuple[str, ...] = APPLICATIONS
    application: str = "encoder"
    heads: tuple[str, ...] = ("lm", "pool", "nsp")
    dialects: tuple[str, ...] = ("tensorflow", "transformers")
    fixed: Mapping[str, Any] = field(default_factory=dict)


def any_name(names: Names, pattern: str) -> bool:
    """Whether a published name matches. 是否有名称匹配。"""
    compiled = re.compile(pattern)
    return any(compiled.search(name) for name in names)


def root_of(names: Names, landmark: str, default: str) -> str:
    """What stands before a landmark in the published names, such as "bert." before embeddings.

    名称中某个标志之前的前缀。
    """
    for name in sorted(names):
        if name.endswith(landmark):
            return name[: -len(landmark)]
    return default


def refuse(raw: Raw, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises UserError where a published config asks for what the family here cannot do, which would else pass
    silently.

    配置要求本库不支持的功能时报错，而不是给出错误的结果。
    """
    for key, values in allowed.items():
        if key in raw and raw[key] not in values:
            raise UserError(
                f"config: {key} is {raw[key]!r}, and this family is built with {' or '.join(map(repr, values))} alone"
            )
