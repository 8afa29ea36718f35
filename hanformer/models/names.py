"""NameMap: which published tensors a parameter comes from, and how to turn one into the other and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from re import Pattern

import torch
from torch import Tensor

from hanformer.errors import UserError

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Transform:
    """How published tensors become parameters (`load`) and parameters published tensors (`save`).

    张量变换：读入与写出互逆。
    """

    load: Callable[[Tensors], Tensors]
    save: Callable[[Tensors], Tensors]

    def then(self, after: Transform) -> Transform:
        """This one when reading, followed by another; writing goes the other way round."""
        return Transform(lambda x: after.load(self.load(x)), lambda x: self.save(after.save(x)))


SAME = Transform(lambda x: x, lambda x: x)
#: Keras and Conv1D kernels are [in, out].
TRANSPOSED = Transform(lambda x: [value.T for value in x], lambda x: [value.T for value in x])


def split(count: int, axis: int = 0) -> Transform:
    """One published tensor holds `count` parameters side by side. 一个张量拆成若干参数。"""
    return Transform(lambda x: x[0].chunk(count, axis), lambda x: [torch.cat(list(x), axis)])


def joined(count: int, axis: int) -> Transform:
    """`count` published shards make one parameter. 若干分片合成一个参数。"""
    return Transform(lambda x: [torch.cat(list(x), axis)], lambda x: x[0].chunk(count, axis))


def unstacked(count: int) -> Transform:
    """One published tensor holds a parameter of every layer, on its first axis. 按层堆叠的张量。"""
    return Transform(lambda x: x[0].unbind(0), lambda x: [torch.stack(list(x))])


def first_rows_dropped(count: int) -> Transform:
    """The first rows of a published table are never used; they come back as zeros. 去掉表首若干行。"""
    return Transform(
        lambda x: [x[0][count:]],
        lambda x: [torch.cat([x[0].new_zeros(count, *x[0].shape[1:]), x[0]])],
    )


def copied(count: int) -> Transform:
    """One published tensor serves `count` parameters, each with a copy of its own. 一个张量复制给各层。"""
    return Transform(
        lambda x: [x[0].clone(memory_format=torch.contiguous_format) for _ in range(count)], _one_of
    )


def _one_of(copies: Tensors) -> Tensors:
    if any(not torch.equal(copies[0], other) for other in copies[1:]):
        raise UserError(
            "the layers differ, and this format has room for one that all share: save as safetensors"
        )
    return [copies[0]]


def made(table: Callable[[], Tensor]) -> Transform:
    """A published tensor that holds no parameter: passed over when read, made when written. 可由公式算出的张量。"""
    return Transform(lambda x: [], lambda x: [table()])


def rotary_halves(heads: int) -> Transform:
    """Rows of a query or key projection: published with the two channels of a rotary pair half a head apart, kept
    here side by side. 旋转位置编码的两种通道排列互换。"""

    def load(x: Tensors) -> Tensors:
        return [
            value.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(value.shape).contiguous()
            for value in x
        ]

    def save(x: Tensors) -> Tensors:
        return [
            value.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(value.shape).contiguous()
            for value in x
        ]

    return Transform(load, save)


@dataclass(frozen=True)
class Entry:
    """Parameters and the published tensors that they come from. 参数与发布张量的对应。"""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    transform: Transform = SAME


def entry(ours: str, theirs: str, transform: Transform = SAME) -> Entry:
    """One to one. 一对一。"""
    return Entry((ours,), (theirs,), transform)


@dataclass(frozen=True)
class NameMap:
    """The names of a format: entries, of which the first that fits is taken, and names that mean nothing here.

    一种格式的名称表；多个候选时取第一个齐全的。
    """

    entries: tuple[Entry, ...]
    ignored: tuple[Pattern[str], ...] = field(default=())

    def choose(self, wanted: Collection[str], present: Collection[str]) -> tuple[list[Entry], list[str]]:
        """The entries that give the wanted parameters from what is present, and the parameters left over."""
        left = dict.fromkeys(wanted)
        chosen = []
        for candidate in self.entries:
            if all(name in left for name in candidate.ours) and all(n in present for n in candidate.theirs):
                chosen.append(candidate)
                for name in candidate.ours:
                    del left[name]
        return chosen, list(left)

    def published(self) -> set[str]:
        """Every published name that has a meaning here."""
        return {name for candidate in self.entries for name in candidate.theirs}

    def expected(self) -> dict[str, str]:
        """Every parameter that this format can hold, with the published names that are looked for first."""
        return {name: " + ".join(found.theirs) for found in reversed(self.entries) for name in found.ours}

    def is_ignored(self, name: str) -> bool:
        """Whether a published name is known to mean nothing: optimizer slots, counters, buffers."""
        return any(pattern.search(name) for pattern in self.ignored)

    def save(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published tensors of a model. Raises UserError for a parameter that the format has no name for."""
        written: dict[str, Tensor] = {}
        left = dict.fromkeys(state)
        for candidate in self.entries:
            if not all(name in left for name in candidate.ours):
                continue
            values = candidate.transform.save([state[name] for name in candidate.ours])
            written.update(zip(candidate.theirs, values, strict=True))
            for name in candidate.ours:
                del left[name]
        if left:
            raise UserError(
                f"this format has no name for {', '.join(list(left)[:4])}{' ...' if len(left) > 4 else ''}; "
                "save as safetensors"
            )
        return written


@dataclass(frozen=True)
class Words:
    """How a format spells a linear layer, a norm and a table, from a path with slashes.

    各格式对线性层、归一化层与表的命名方式。
    """

    weight: str
    bias: str
    gain: str
    shift: str
    table: str
    transform: Transform
    path: Callable[[str], str]

    def linear(self, ours: str, theirs: str) -> list[Entry]:
        """Weight and bias of a linear layer."""
        path = self.path(theirs)
        return [
            entry(f"{ours}.weight", path + self.weight, self.transform),
            entry(f"{ours}.bias", path + self.bias),
        ]

    def norm(self, ours: str, theirs: str) -> list[Entry]:
        """Gain and bias of a norm."""
        path = self.path(theirs)
        return [entry(f"{ours}.weight", path + self.gain), entry(f"{ours}.bias", path + self.shift)]

    def embedding(self, ours: str, theirs: str) -> list[Entry]:
        """A table."""
        return [entry(f"{ours}.weight", self.path(theirs) + self.table)]

    def vector(self, ours: str, theirs: str) -> list[Entry]:
        """A lone parameter."""
        return [entry(ours, self.path(theirs))]


def _dotted(path: str) -> str:
    return re.sub(r"\blayer_(\d)", r"layer.\1", path.replace("/", "."))


KERAS = Words("/kernel", "/bias", "/gamma", "/beta", "", TRANSPOSED, lambda path: path)
TORCH = Words(".weight", ".bias", ".weight", ".bias", ".weight", SAME, _dotted)
#: As early PyTorch conversions of BERT spell their norms.
TORCH_GAMMA = Words(".weight", ".bias", ".gamma", ".beta", ".weight", SAME, _dotted)


def flattened(parts: Iterable[Iterable[Entry]]) -> tuple[Entry, ...]:
    """Entries of many parts, in order. 合并各部分的条目。"""
    return tuple(found for part in parts for found in part)
