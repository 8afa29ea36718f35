"""Attention with its weights kept: against pairs by hand, in exact arithmetic and in bfloat16."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hanformer.nn.functional import attend as room
from hanformer.nn.functional import written
from hanformer.nn.functional.attend import attend, differentiable_twice
from hanformer.nn.functional.dropping import kept_places
from hanformer.nn.functional.joint import hide
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.rules import Rule
from hanformer.nn.functional.sparse_rules import Local, Sparse
from hanformer.nn.functional.visibility import Causal, Full, UniLM, Visibility
from hanformer.nn.functional.written import LONGEST, attend_written, keeps_weights, slopes_again
from tests.harness import EXACT, naive_attend, naive_visible, patterned_layout, rows_of

RULES = [Full(), Causal(), UniLM()]


def drawn(tokens: int, dtype: torch.dtype, size: int = 8) -> list[Tensor]:
    return [torch.randn(tokens, 2, size).to(dtype).requires_grad_() for _ in range(3)]


def by_rectangles(visibility: Visibility, scale: float, *packed: Tensor) -> Tensor:
    (piece,) = visibility.pieces
    parts = zip(piece.plans, piece.rectangles(*packed), strict=True)
    return piece.collect([attend_written(own, plan, None, scale) for plan, own in parts])


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_it_is_exact_and_so_is_its_derivative(rule: Rule) -> None:
    layout = patterned_layout((5, 1, 3, 0))
    visibility, visible = rule.bind(layout), [naive_visible(rule, row) for row in rows_of(layout)]
    inputs = drawn(9, torch.float64, size=2)
    expected = naive_attend(*inputs, visibility, visible, 0.7)
    torch.testing.assert_close(by_rectangles(visibility, 0.7, *inputs), expected, **EXACT)
    assert torch.autograd.gradcheck(lambda *x: by_rectangles(visibility, 0.7, *x), inputs)


@pytest.mark.parametrize("rows", [1, 2])
def test_biases_are_added_and_learned(rows: int) -> None:
    plan = Full().bind(Layout.of((3, 3))).pieces[0].plans[0]
    inputs = [torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    bias = torch.randn(rows, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    query, key, value = inputs
    expected = torch.softmax(query @ key.mT * 0.5 + bias, -1) @ value
    torch.testing.assert_close(attend_written(tuple(inputs), plan, bias, 0.5), expected, **EXACT)
    assert torch.autograd.gradcheck(
        lambda q, k, v, b: attend_written((q, k, v), plan, b, 0.5), [*inputs, bias]
    )


@pytest.mark.parametrize("as_bias", [False, True])
def test_a_query_that_sees_nothing_gets_zeros_and_finite_gradients(as_bias: bool) -> None:
    mask = torch.tensor([[True, True], [False, False]])[None, None]
    plan = replace(Full().bind(Layout.of((2,))).pieces[0].plans[0], mask=mask, causal=False)
    bias = torch.zeros(1, 1, 2, 2).masked_fill(~mask, float("-inf")) if as_bias else None
    inputs = [torch.randn(1, 1, 2, 4).bfloat16().requires_grad_() for _ in range(3)]
    mixed = attend_written(tuple(inputs), plan, bias, 0.5)
    mixed.sum().backward()
    assert not mixed[0, 0, 1].any() and mixed[0, 0, 0].any()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)


def test_dropout_is_exact_for_what_it_drew(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Full().bind(Layout.of((5,))).pieces[0].plans[0]
    inputs = [torch.randn(1, 2, 5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    kept = kept_places((1, 2, 5, 5), 0.4)
    assert 0 < int(kept.sum()) < kept.numel()
    monkeypatch.setattr(written, "kept_places", lambda shape, rate: kept)
    query, key, value = inputs
    weights = torch.softmax(query @ key.mT * 0.5, -1) * kept * 256 / (256 - round(0.4 * 256))
    torch.testing.assert_close(attend_written(tuple(inputs), plan, None, 0.5, 0.4), weights @ value, **EXACT)
    assert torch.autograd.gradcheck(lambda *x: attend_written(x, plan, None, 0.5, 0.4), inputs)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_training_in_half_precision_is_near(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(room, "attend_written", lambda *given: calls.append(1) or attend_written(*given))
    visibility = rule.bind(patterned_layout((40, 1, 33, 4)))
    exact = drawn(78, torch.float32)
    half = [x.detach().bfloat16().requires_grad_() for x in exact]
    slope = torch.randn(78, 2, 8)
    expected = attend(*exact, visibility, scale=0.35)
    found = attend(*half, visibility, scale=0.35)
    assert found.dtype == torch.bfloat16 and calls
    expected.backward(slope)
    found.backward(slope.bfloat16())
    torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.03)
    for ours, theirs in zip(half, exact, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert (ours.grad.float() - theirs.grad).norm() < 0.01 * theirs.grad.norm()


def test_logits_are_not_rounded_under_autocast() -> None:
    # Logits of 100 and more: in bfloat16 their neighbours are a half apart, and weights would be far off.
    visibility = Full().bind(Layout.of((30,)))
    inputs = [(6 * x.detach()).bfloat16().float().requires_grad_() for x in drawn(30, torch.float32)]
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(*inputs, visibility, scale=1.0)
    expected = attend(*inputs, visibility, scale=1.0)
    torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=0.05)


def test_where_weights_are_kept() -> None:
    x = torch.zeros(1, 1, 4, 2, dtype=torch.bfloat16, requires_grad=True)
    assert keeps_weights((x, x, x), 0.0)
    single = x.detach().float().requires_grad_()
    assert keeps_weights((single, single, single), 0.1)
    assert not keeps_weights((single, single, single), 0.0)
    assert not keeps_weights((x.detach(), x.detach(), x.detach()), 0.0)
    long = x.expand(1, 1, 4, 2).repeat(1, 1, LONGEST // 4 + 1, 1)
    assert not keeps_weights((x, long, long), 0.0)
    assert keeps_weights((x, long, long), 0.1)  # as torch does, whose fused kernel knows no dropout
    with torch.no_grad():
        assert not keeps_weights((x, x, x), 0.0)
    with differentiable_twice():
        assert not keeps_weights((x, x, x), 0.0)


@pytest.mark.parametrize("pairs", [1, 2**22])
@pytest.mark.parametrize("rule", [*RULES, Local(1)], ids=repr)
def test_weights_computed_again(rule: Rule, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "PAIRS", pairs)
    (piece,) = rule.bind(patterned_layout((5, 4, 1, 3))).pieces
    rectangles = piece.rectangles(*drawn(13, torch.float64, size=2))
    for plan, part in zip(piece.plans, rectangles, strict=True):
        query, key, value = part = tuple(x.detach().requires_grad_() for x in part)
        logits = hide(query @ key.mT * 0.7, plan)
        log = logits.logsumexp(-1, keepdim=True)
        log = log.masked_fill(log.isneginf(), float("inf"))
        mixed = (logits - log).exp() @ value
        slope = torch.randn_like(mixed)
        expected = torch.autograd.grad(mixed, part, slope)
        found = slopes_again(plan, part, 0.7, (slope, mixed.detach(), log.detach()))
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, **EXACT)


def test_several_pieces_in_half_precision_are_near() -> None:
    visibility = Sparse(rate=8, radius=4).bind(Layout.of((37, 1, 300)))
    assert len(visibility.pieces) > 1
    exact = drawn(338, torch.float32)
    half = [x.detach().bfloat16().requires_grad_() for x in exact]
    slope = torch.randn(338, 2, 8)
    attend(*exact, visibility, scale=0.35).backward(slope)
    attend(*half, visibility, scale=0.35).backward(slope.bfloat16())
    for ours, theirs in zip(half, exact, strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert (ours.grad.float() - theirs.grad).norm() < 0.01 * theirs.grad.norm()
