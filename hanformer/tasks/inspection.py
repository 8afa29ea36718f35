"""What a checkpoint holds, and what would come of loading it. 检查点的内容，以及加载的结果。"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.checkpoint import Checkpoint, describe_checkpoint, own_values
from hanformer.models.loading import examine
from hanformer.models.report import LoadReport
from hanformer.tasks.opening import heads_in
from hanformer.weights.bundle import BundleIndex
from hanformer.weights.source import Source, TensorInfo

#: Where a value of the config comes from.
FILE, OVERRIDDEN, FAMILY, DEFAULT = "file", "family, over the file", "family", "default"


@dataclass(frozen=True)
class Choice:
    """A value of the config in our words, where it comes from, and what the file says where that is not used.

    配置中的一项：取值、来源，以及被覆盖的原值。
    """

    name: str
    value: object
    origin: str
    said: object = None


@dataclass(frozen=True)
class Loaded:
    """The model that would be loaded; `refusal` is what `load` says where it would refuse, strict as it is by default.

    加载后的模型概况；refusal 为默认严格加载时的拒绝理由。
    """

    heads: tuple[str, ...]
    parameters: int
    choices: tuple[Choice, ...]
    report: LoadReport
    refusal: str | None = None


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found; `complaint` says what keeps it from being loaded, or is None.

    检查结果；无法识别或加载时 complaint 说明原因。

    `family` and `loaded` are None where nothing tells. Of what would be refused, and of a TensorFlow index without its
    data, `loaded` is what would come of it otherwise. `left_out` says what lies beside the weights and is not loaded.
    """

    origin: str
    format: str
    dialect: str
    family: str | None
    tensors: tuple[TensorInfo, ...]
    loaded: Loaded | None
    complaint: str | None
    left_out: str | None = None

    @property
    def fits(self) -> bool:
        """Whether config, family and names of the tensors make a model."""
        return self.loaded is not None and self.loaded.refusal is None

    @property
    def numbers(self) -> int:
        """How many numbers all tensors hold."""
        return sum(prod(info.shape) for info in self.tensors)

    @property
    def bytes(self) -> int:
        """The size of all tensors, in bytes."""
        return sum(prod(info.shape) * info.dtype.itemsize for info in self.tensors)


def inspect(
    path: str | Path, *, family: str | None = None, config: str | Path | Mapping[str, Any] | None = None
) -> Inspection:
    """Names, shapes and family of a checkpoint, its config in our words, and how it would load as that family.

    查看检查点：张量、家族、配置（含被家族覆盖的值），以及按该家族加载的吻合情况。

    Raises UserError where the path holds no checkpoint; what keeps a checkpoint from being loaded is told in
    `complaint`.
    """
    complaint, loaded = None, None
    try:
        checkpoint = describe_checkpoint(path, family=family, config=config)
    except UserError as error:
        if config is not None:
            raise
        complaint = str(error)
        checkpoint = describe_checkpoint(path, family=family, config={})
    if complaint is None:
        try:
            loaded = _loaded(checkpoint)
            complaint = loaded.refusal
        except UserError as error:
            complaint = str(error)
    source = checkpoint.source
    return Inspection(
        str(path),
        source.format,
        checkpoint.dialect,
        None if checkpoint.family is None else checkpoint.family.name,
        tuple(source.info(name) for name in source.names()),
        loaded,
        "; ".join(filter(None, (_without_data(source), complaint))) or None,
        checkpoint.left_out,
    )


def _without_data(source: Source) -> str | None:
    """What keeps an index alone from being loaded."""
    if not isinstance(source, BundleIndex) or not source.missing:
        return None
    names = ", ".join(path.name for path in source.missing)
    return f"{source.origin}: the index lies here without its data, {names}; get all files of the checkpoint"


def _loaded(checkpoint: Checkpoint) -> Loaded:
    heads = heads_in(checkpoint)
    model, report, refusal = examine(checkpoint, heads)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Loaded(heads, parameters, choices(checkpoint), report, refusal)


def choices(checkpoint: Checkpoint) -> tuple[Choice, ...]:
    """Every value of the config and its origin. 配置各项及其来源。"""
    config = checkpoint.config({})
    raw = own_values(checkpoint.raw) if checkpoint.dialect == "own" else checkpoint.raw
    said = ModelConfig.words(raw)
    return tuple(
        _choice(entry.name, getattr(config, entry.name), said, _default(entry)) for entry in fields(config)
    )


def _default(entry: Field[Any]) -> object:
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def _choice(name: str, value: object, said: Mapping[str, object], default: object) -> Choice:
    if isinstance(value, tuple):  # a file holds a list
        value, default = list(value), list(default) if isinstance(default, tuple) else default
    if name == "extra":
        return Choice(name, value, FILE if value else DEFAULT)
    if name in said:
        same = said[name] == value or name == "family"
        return Choice(name, value, FILE) if same else Choice(name, value, OVERRIDDEN, said[name])
    return Choice(name, value, DEFAULT if value == default else FAMILY)


@dataclass(frozen=True)
class Like:
    """Tensors of one shape and dtype whose names differ in one number: the same part of many layers.

    仅层号不同的一组张量。
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int


_NUMBER = re.compile(r"\d+")


def alike(tensors: Iterable[TensorInfo]) -> list[Like]:
    """Tensors grouped over layers, in the order of the file: layer.{0..11}.key. 按层归并张量。"""
    groups: dict[tuple[str, tuple[int, ...], str], list[TensorInfo]] = {}
    for info in tensors:
        template = _NUMBER.sub("{}", info.name.replace("{", "(").replace("}", ")"), count=1)
        groups.setdefault((template, info.shape, str(info.dtype).removeprefix("torch.")), []).append(info)
    return [_like(*key, found) for key, found in groups.items()]


def _like(template: str, shape: tuple[int, ...], dtype: str, found: list[TensorInfo]) -> Like:
    if len(found) == 1:
        return Like(found[0].name, shape, dtype, 1)
    written = [match.group() for info in found if (match := _NUMBER.search(info.name))]
    numbers = sorted(map(int, written))
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    listed = f"{numbers[0]}..{numbers[-1]}" if whole else ",".join(map(str, numbers))
    return Like(template.replace("{}", "{" + listed + "}"), shape, dtype, len(found))
