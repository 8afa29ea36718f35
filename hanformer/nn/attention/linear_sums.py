"""Sums of φ(k) vᵀ over what each query sees: all of a row, or what stands left of it, chunk by chunk.

Everything works on rectangles [B, H, T, ·] of neighbouring rows, padded on the right with keys that have no features:
no chunk crosses a row. Values carry channels of ones, so that one product gives numerator and denominator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from hanformer.nn.attention.feature_maps import FeatureMap
from hanformer.nn.functional.groups import Group, cut_rows, group_of
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.plans import owned

#: Tokens of a chunk: within it, work grows with its square; between chunks a sum of features x channels is kept.
CHUNK = 64


@dataclass(frozen=True, eq=False)
class Rectangle:
    """Neighbouring rows as one rectangle, and what is real in it. 相邻若干行组成的矩形。

    `real` bool [B, 1, T, 1], or None where nothing is padding.
    """

    group: Group
    real: Tensor | None


def gathered(packed: Tensor, parts: Sequence[Rectangle]) -> list[Tensor]:
    """[N, H, D] of the whole batch to [B, H, T, D] of each rectangle. 打包张量到各个矩形。"""
    groups = [part.group for part in parts]
    return [group.gather(own) for group, own in zip(groups, owned(packed, groups), strict=True)]


_RECTANGLES: WeakKeyDictionary[Layout, tuple[Rectangle, ...]] = WeakKeyDictionary()
_PREFIXES: WeakKeyDictionary[Layout, tuple[Tensor, ...] | None] = WeakKeyDictionary()


def rectangles(layout: Layout) -> tuple[Rectangle, ...]:
    """The rectangles of a batch, with little padding: made once, they serve every layer. 批次的矩形划分（缓存）。"""
    found = _RECTANGLES.get(layout)
    if found is None:
        with torch.inference_mode(False):
            runs = cut_rows((layout.lengths,))
            groups = [group_of(layout, *run) for run in runs if sum(layout.lengths[run[0] : run[1]])]
            found = _RECTANGLES[layout] = tuple(Rectangle(group, _real(group)) for group in groups)
    return found


def _real(group: Group) -> Tensor | None:
    return None if group.places is None else group.real()[:, None, :, None]


def prefixes(layout: Layout) -> tuple[Tensor, ...] | None:
    """What every token may see under UniLM, bool [B, 1, T, 1] for each rectangle: the first run of equal reach.

    UniLM 中各行的公共前缀。

    None where a row goes back to segment 0 after that: then it is more than a prefix and tokens one by one.
    """
    if layout not in _PREFIXES:
        with torch.inference_mode(False):
            _PREFIXES[layout] = _prefixes(layout) if _splits(layout) else None
    return _PREFIXES[layout]


def _prefixes(layout: Layout) -> tuple[Tensor, ...]:
    found = []
    for part in rectangles(layout):
        reach = part.group.fill(layout.reach_of_token)
        prefix = (reach == reach[:, :1])[:, None, :, None]
        found.append(prefix if part.real is None else prefix & part.real)
    return tuple(found)


def _splits(layout: Layout) -> bool:
    if not layout.total:
        return True
    starts = torch.tensor(layout.offsets[:-1], device=layout.positions.device).clamp_max(layout.total - 1)
    first = layout.reach_of_token[starts][layout.row_of_token]
    return not bool(((layout.reach_of_token > first) & (layout.segments == 0)).any())


def wide(x: Tensor) -> Tensor:
    """In float32 at least, in which sums are made. 至少提升到 float32。"""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def with_ones(value: Tensor) -> Tensor:
    """[..., D] to [..., E] in float32 at least: after the values ones, up to a multiple of 8.

    One would do to count; products of 65 columns take longer than those of 72.
    """
    return functional.pad(wide(value), (0, 8 - value.shape[-1] % 8), value=1.0)


def ratio(sums: Tensor, size: int) -> Tensor:
    """Numerators, the first `size` channels of [..., E], by the denominator after them; 0 where nothing was seen."""
    return divided(sums, sums, size)


def divided(above: Tensor, below: Tensor, size: int) -> Tensor:
    """Numerators of one sum [..., E] by the denominator of another: [..., size]; 0 where nothing was seen.

    一个和的分子除以另一个和的分母。
    """
    total = below[..., size : size + 1]
    return above[..., :size] / total.masked_fill(total == 0, 1.0)


def meet(query: Tensor, key: Tensor, value: Tensor, before: Tensor | None) -> Tensor:
    """φ(q_i)·(before + Σ_{j ≤ i} ϕ(k_j) v_jᵀ), by pairs: [B, H, T, m] and [B, H, T, E] to the same."""
    seen = (query @ key.mT).tril_() @ value
    return seen if before is None else seen + query @ before


@dataclass(frozen=True, eq=False)
class Keys:
    """Keys and values [B, H, T, D] of a rectangle, and what makes features of them, some tokens at a time.

    矩形中的键与值；特征按块计算。

    `kept` bool [B, 1, T, 1]: keys that have features at all; None for all of them. What is computed by chunks stays
    in the processor's own memory.
    """

    features: FeatureMap
    key: Tensor
    value: Tensor
    kept: Tensor | None

    @property
    def length(self) -> int:
        """T."""
        return self.key.shape[2]

    def parts(self, chunk: int) -> Iterator[Keys]:
        """Neighbouring tokens together, `chunk` of them.

        Split, not sliced: on the way back a slice fills a gradient as long as the row, and there are T / chunk of them.
        """
        kept = repeat(None) if self.kept is None else self.kept.split(chunk, 2)
        for key, value, real in zip(self.key.split(chunk, 2), self.value.split(chunk, 2), kept, strict=False):
            yield Keys(self.features, key, value, real)

    def expand(self) -> tuple[Tensor, Tensor]:
        """Features [B, H, T, m] and values with ones [B, H, T, E]."""
        key = wide(self.key)
        if self.kept is not None and not self.features.tokenwise:
            key = key.masked_fill(~self.kept, float("-inf"))
        features = self.features.key(key)
        if self.kept is not None:
            features = features.masked_fill(~self.kept, 0.0)
        return features, with_ones(self.value)

    def total(self, chunk: int = 2 * CHUNK) -> Tensor:
        """Σ_j ϕ(k_j) v_jᵀ: [B, H, m, E]."""
        if not self.features.tokenwise:
            chunk = self.length
        sums = None
        for part in self.parts(chunk):
            sums = added(sums, *part.expand())
        assert sums is not None, "a rectangle has tokens"
        return sums


def added(sums: Tensor | None, key: Tensor, value: Tensor) -> Tensor:
    """sums + Σ_j ϕ(k_j) v_jᵀ: [B, H, m, E], from features [B, H, T, m] and values [B, H, T, E]."""
    if sums is None:
        return key.mT @ value
    flat = (x.flatten(0, 1) for x in (sums, key.mT, value))
    return torch.baddbmm(*flat).unflatten(0, sums.shape[:2])


def full(query: Tensor, keys: Keys, chunk: int = 2 * CHUNK, apart: bool = False) -> Tensor:
    """What queries [B, H, T, D] see of all keys of their row: [B, H, T, D'].

    `apart`: undivided, [B, H, T, E], the denominator after the numerators.
    """
    sums = keys.total(chunk)
    found = [keys.features.query(wide(part)) @ sums for part in query.split(chunk, 2)]
    return _end_to_end(found if apart else [ratio(part, keys.value.shape[-1]) for part in found])


def _end_to_end(parts: list[Tensor]) -> Tensor:
    """[B, H, t, D] of all chunks as [B, H, T, D], laid out token by token, as packed batches are."""
    return torch.cat([part.transpose(1, 2) for part in parts], 1).transpose(1, 2)


def causal(
    query: Tensor, keys: Keys, before: Tensor | None = None, chunk: int = CHUNK, apart: bool = False
) -> Tensor:
    """What queries see of `before` and of the keys up to their own place: [B, H, T, D']; `apart` as in `full`.

    因果线性注意力的分块形式：块内两两计算，块间累加状态。

    Within a chunk all pairs are met, between chunks a sum [B, H, m, E] goes on: T (chunk (m + D') + 2 m D')
    products. Equal to the recursion S_i = S_{i-1} + ϕ(k_i) v_iᵀ. Source: Hua et al. 2022, arXiv 2202.10447.
    """
    found: list[Tensor] = []
    queries = query.split(chunk, 2)
    for part, some in zip(queries, keys.parts(chunk), strict=True):
        features, value = some.expand()
        seen = meet(keys.features.query(wide(part)), features, value, before)
        found.append(seen if apart else ratio(seen, keys.value.shape[-1]))
        if len(found) < len(queries):
            before = added(before, features, value)
    return _end_to_end(found)
