"""Sparse patterns: each against its definition, its numbers of pairs, and the masks of the paper's code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.functional.rules import Causal, Full, Rule
from hanformer.nn.functional.sparse_rules import Atrous, Local, Sparse
from tests.harness import naive_visible

LENGTHS = (0, 1, 2, 7, 12, 24)


def visible(rule: Rule, length: int) -> Tensor:
    return naive_visible(rule, torch.zeros(length, dtype=torch.int64))


def offsets(length: int) -> Tensor:
    places = torch.arange(length)
    return places[None, :] - places[:, None]


@pytest.mark.parametrize("length", LENGTHS)
def test_definitions(length: int) -> None:
    away = offsets(length)
    assert torch.equal(visible(Local(3), length), away.abs() <= 3)
    assert torch.equal(visible(Atrous(3), length), away % 3 == 0)
    assert torch.equal(visible(Sparse(3), length), (away.abs() <= 3) | (away % 3 == 0))
    assert torch.equal(visible(Sparse(4, 2), length), visible(Local(2) | Atrous(4), length))


@pytest.mark.parametrize("length", LENGTHS)
def test_limits_are_full_attention(length: int) -> None:
    full = visible(Full(), length)
    for rule in (Atrous(1), Sparse(1), Local(max(length - 1, 0)), Local(10**9), Sparse(10**9)):
        assert torch.equal(visible(rule, length), full)
    assert torch.equal(visible(Local(0), length), torch.eye(length).bool())
    assert torch.equal(visible(Atrous(10**9), length), torch.eye(length).bool())


@pytest.mark.parametrize(("length", "size"), [(24, 2), (24, 4), (24, 6), (12, 3)])
def test_numbers_of_pairs(length: int, size: int) -> None:
    assert int(visible(Atrous(size), length).sum()) == length**2 // size
    assert int(visible(Local(size), length).sum()) == length * (2 * size + 1) - size * (size + 1)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_local_then_atrous_reaches_everything(size: int) -> None:
    reached = visible(Local(size), 17).double() @ visible(Atrous(size), 17).double()
    assert bool((reached > 0).all())


@pytest.mark.parametrize("context", [1, 3, 4])
def test_masks_of_the_sparse_transformer(context: int) -> None:
    """Its "local" and "strided" modes in causal form, written out as the paper's code states them."""
    query, key = torch.arange(13)[:, None], torch.arange(13)[None]
    local = (key <= query) & (query - key < context)
    strided = (key <= query) & ((query - key) % context == 0)
    assert torch.equal(visible(Causal() & Local(context - 1), 13), local)
    assert torch.equal(visible(Causal() & Atrous(context), 13), strided)
    assert torch.equal(visible(Causal() & Sparse(context, context - 1), 13), local | strided)


def test_permuting_residue_classes_permutes_atrous() -> None:
    order = torch.tensor([1, 2, 0])
    moved = (torch.arange(12).view(4, 3)[:, order]).flatten()
    pattern = visible(Atrous(3), 12)
    assert torch.equal(pattern[moved][:, moved], pattern)


@pytest.mark.parametrize(
    "build", [lambda: Local(-1), lambda: Atrous(0), lambda: Sparse(2, -1), lambda: Sparse(0)]
)
def test_sizes_that_cannot_be_meant(build: object) -> None:
    with pytest.raises(UserError, match="expected a whole number"):
        build()


@pytest.mark.parametrize("value", [1.5, True, "3", None])
def test_sizes_of_another_type(value: object) -> None:
    with pytest.raises(UserError, match="radius: expected a whole number, 0 or more"):
        Local(value)


@pytest.mark.parametrize("build", [Local, Atrous, lambda size: Sparse(3, size), lambda size: Sparse(size, 3)])
@pytest.mark.parametrize("size", [2**31, 10**30])
def test_sizes_beyond_all_rows(build: Callable[[int], Rule], size: int) -> None:
    with pytest.raises(UserError, match=f"at most 2147483647, got {size}"):
        build(size)
    assert build(2**31 - 1).spans
