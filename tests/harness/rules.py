"""What every visibility rule must satisfy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hanformer.nn.functional.attend import attend, attend_explicit
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Rule, Tokens, Visibility
from tests.harness.material import EXACT, assert_all_close, flatten_rows, segment_pattern

LAYOUTS: tuple[tuple[int, ...], ...] = (
    (),
    (1,),
    (6,),
    (3, 3, 3),
    (1, 1, 1),
    (5, 1, 3, 8, 8, 2),
    (0, 4, 0, 1),
    (0, 0),
    (2, 7, 0, 0, 9, 1, 9),
)
CROSS_LAYOUTS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((3, 1, 2), (2, 5, 4)),
    ((4, 4), (4, 4)),
    ((1, 1), (6, 6)),
    ((5,), (1,)),
    ((0, 3, 2, 2), (4, 0, 1, 1)),
    ((3, 3), (0, 0)),
)


def check_rule(rule: Rule) -> None:
    """`bind` and its plan equal the definition, on ragged, length-1 and empty rows, alone and across layouts."""
    for lengths in LAYOUTS:
        layout = patterned_layout(lengths)
        check_visibility(rule.bind(layout), oracle=[naive_visible(rule, row) for row in rows_of(layout)])
    for query_lengths, key_lengths in CROSS_LAYOUTS:
        query, key = patterned_layout(query_lengths), patterned_layout(key_lengths, 1)
        pairs = zip(rows_of(query), rows_of(key), strict=True)
        check_visibility(rule.bind(query, key), oracle=[naive_visible(rule, *pair) for pair in pairs])
    check_claims(rule)


def patterned_layout(lengths: Sequence[int], shift: int = 0) -> Layout:
    """A layout whose segments follow `segment_pattern`."""
    return Layout.of(
        lengths, flatten_rows([segment_pattern(n, row + shift) for row, n in enumerate(lengths)])
    )


def rows_of(layout: Layout) -> list[Tensor]:
    """The segments of each row."""
    return list(layout.segments.split(list(layout.lengths)))


def naive_visible(rule: Rule, query_segments: Tensor, key_segments: Tensor | None = None) -> Tensor:
    """The definition: bool [Q, K] of one row, asked pair by pair."""
    query, key = (
        Tokens(torch.arange(len(segments)), segments, segments.cumsum(0))
        for segments in (query_segments, query_segments if key_segments is None else key_segments)
    )
    visible = torch.zeros(len(query.index), len(key.index), dtype=torch.bool)
    for i in range(len(query.index)):
        for j in range(len(key.index)):
            visible[i, j] = rule.allows(_token(query, i), _token(key, j))
    return visible


def _token(tokens: Tokens, place: int) -> Tokens:
    return Tokens(tokens.index[place], tokens.segment[place], tokens.reach[place])


def check_visibility(visibility: Visibility, oracle: Sequence[Tensor]) -> None:
    """The dense form and attention (values and gradients) equal the pair-by-pair oracle of each row."""
    dense = visibility.dense()
    for row, expected in enumerate(oracle):
        cut = torch.zeros_like(dense[row])
        cut[: expected.shape[0], : expected.shape[1]] = expected
        assert torch.equal(dense[row], cut)
    for value_size in (4, 3):
        inputs = _attention_inputs(visibility, value_size)
        weights = torch.randn(visibility.query.total, 2, value_size, dtype=torch.float64)
        fast, naive = attend(*inputs, visibility, scale=0.4), naive_attend(*inputs, visibility, oracle, 0.4)
        torch.testing.assert_close(fast, naive, **EXACT)
        if fast.requires_grad:
            slopes = [torch.autograd.grad((out * weights).sum(), inputs) for out in (fast, naive)]
            assert_all_close(*slopes)


def _attention_inputs(visibility: Visibility, value_size: int) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((visibility.query.total, 4), (visibility.key.total, 4), (visibility.key.total, value_size))
    query, key, value = (
        torch.randn(tokens, 2, size, dtype=torch.float64, requires_grad=True) for tokens, size in shapes
    )
    return query, key, value


def naive_attend(
    query: Tensor, key: Tensor, value: Tensor, visibility: Visibility, oracle: Sequence[Tensor], scale: float
) -> Tensor:
    """Attention row by row from explicit logits; [Nq, H, D']."""
    per_row = zip(
        query.split(list(visibility.query.lengths)),
        key.split(list(visibility.key.lengths)),
        value.split(list(visibility.key.lengths)),
        oracle,
        strict=True,
    )
    parts = [query.new_zeros(0, query.shape[1], value.shape[2])]
    for q, k, v, visible in per_row:
        logits = torch.einsum("qhd,khd->hqk", q, k)[None] * scale
        parts.append(attend_explicit(logits, v.transpose(0, 1)[None], visible)[0][0].transpose(0, 1))
    return torch.cat(parts)


def check_claims(rule: Rule) -> None:
    """What a rule says of itself is true: `is_full`, `is_causal`, and that `allows` broadcasts."""
    layout = patterned_layout((7, 8, 5))
    for segments in rows_of(layout):
        visible = naive_visible(rule, segments)
        assert visible.all() or not rule.is_full
        assert torch.equal(visible, torch.ones_like(visible).tril()) or not rule.is_causal
        tokens = Tokens(torch.arange(len(segments)), segments, segments.cumsum(0))
        assert torch.equal(rule.allows(tokens.as_queries(), tokens.as_keys()), visible)
        stacked = replace(
            tokens, **{name: getattr(tokens, name)[None] for name in ("index", "segment", "reach")}
        )
        assert rule.allows(stacked.as_queries(), stacked.as_keys()).shape == (1, *visible.shape)
