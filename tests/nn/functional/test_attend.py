"""Attention: the kernel room against arithmetic by hand, its limits, and its derivatives."""

from __future__ import annotations

import math

import pytest
import torch

from hanformer.nn.functional.attend import attend, attend_explicit, differentiable_twice, softmax
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Causal, Full, UniLM
from tests.harness import EXACT, naive_attend, naive_visible, patterned_layout, rows_of


def test_softmax_by_hand() -> None:
    weights = softmax(torch.tensor([[0.0, math.log(3.0), -math.inf]]))
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75, 0.0]]))


def test_a_row_that_sees_nothing_gives_zeros_and_finite_gradients() -> None:
    logits = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    value = torch.randn(1, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    visible = torch.tensor([[False, False, False], [True, False, True]])
    mixed, weights = attend_explicit(logits, value, visible)
    assert not mixed[0, 0, 0].any() and not weights[0, 0, 0].any()
    assert float(weights[0, 0, 1].sum().detach()) == pytest.approx(1.0)
    assert torch.autograd.gradcheck(lambda *inputs: attend_explicit(*inputs, visible)[0], (logits, value))


def test_softmax_of_no_keys() -> None:
    mixed, weights = attend_explicit(
        torch.zeros(1, 2, 3, 0), torch.zeros(1, 2, 0, 4), torch.ones(3, 0).bool()
    )
    assert weights.shape == (1, 2, 3, 0) and mixed.shape == (1, 2, 3, 4) and not mixed.any()


def test_half_precision_sums_in_single() -> None:
    logits = torch.zeros(1, 4096, dtype=torch.bfloat16)
    assert softmax(logits).dtype == torch.bfloat16
    assert float(softmax(logits).float().sum()) == pytest.approx(1.0, abs=1e-3)


def test_explicit_attention_by_definition() -> None:
    logits, value = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 5, 6)
    bias, visible = torch.randn(4, 5, 6), torch.rand(2, 1, 4, 5) < 0.7
    visible[..., 0] = True
    mixed, weights = attend_explicit(logits, value, visible, value_bias=bias)
    for b, h, i in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        powers = [math.exp(logits[b, h, i, j]) * bool(visible[b, 0, i, j]) for j in range(5)]
        shares = torch.tensor([power / sum(powers) for power in powers])
        torch.testing.assert_close(weights[b, h, i], shares)
        expected = sum(shares[j] * (value[b, h, j] + bias[i, j]) for j in range(5))
        torch.testing.assert_close(mixed[b, h, i], expected)


def test_another_normaliser_sees_hidden_entries_as_minus_infinity() -> None:
    visible = torch.tensor([[True, False]])
    _, weights = attend_explicit(torch.tensor([[[[2.0, 3.0]]]]), torch.ones(1, 1, 2, 1), visible, torch.exp)
    assert weights[0, 0, 0].tolist() == [pytest.approx(math.exp(2.0)), 0.0]


def test_equal_values_come_back() -> None:
    layout = patterned_layout((5, 1, 3))
    value = torch.ones(9, 2, 4)
    for rule in (Full(), Causal(), UniLM()):
        mixed = attend(torch.randn(9, 2, 4), torch.randn(9, 2, 4), value, rule.bind(layout), scale=0.5)
        torch.testing.assert_close(mixed, value)


def test_large_logits_stay_finite() -> None:
    layout = Layout.of((4, 2))
    query = 1e4 * torch.randn(6, 1, 8)
    assert attend(query, query, query, Causal().bind(layout), scale=1.0).isfinite().all()


def test_nothing_to_attend() -> None:
    nothing = torch.zeros(0, 2, 4)
    for lengths in ((), (0, 0)):
        assert attend(nothing, nothing, nothing, Full().bind(Layout.of(lengths)), scale=1.0).shape == (
            0,
            2,
            4,
        )


def test_dropout_acts_on_weights() -> None:
    layout = Layout.of((64,))
    x, ones = torch.zeros(64, 1, 4), torch.ones(64, 1, 4)
    mixed = attend(x, x, ones, Full().bind(layout), scale=1.0, dropout=0.5)
    assert 0.5 < float(mixed.mean()) < 1.5 and float(mixed.std()) > 0.01
    assert torch.equal(attend(x, x, ones, Full().bind(layout), scale=1.0), ones)


@pytest.mark.parametrize("rule", [Full(), Causal(), UniLM()], ids=repr)
def test_second_derivative(rule: Full | Causal | UniLM) -> None:
    visibility = rule.bind(patterned_layout((3, 1, 2)))
    inputs = [torch.randn(6, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    with differentiable_twice():
        assert torch.autograd.gradgradcheck(
            lambda *x: attend(*x, visibility, scale=0.7), inputs, fast_mode=True
        )


def test_twice_differentiable_kernel_gives_the_same_values() -> None:
    layout = patterned_layout((5, 1, 3, 0))
    visible = [naive_visible(UniLM(), row) for row in rows_of(layout)]
    inputs = [torch.randn(9, 2, 4, dtype=torch.float64) for _ in range(3)]
    visibility = UniLM().bind(layout)
    with differentiable_twice():
        careful = attend(*inputs, visibility, scale=0.5)
    torch.testing.assert_close(careful, naive_attend(*inputs, visibility, visible, 0.5), **EXACT)


@pytest.mark.parametrize("rule", [Full(), Causal(), UniLM()], ids=repr)
def test_half_precision_is_near(rule: Full | Causal | UniLM) -> None:
    visibility = rule.bind(patterned_layout((5, 1, 3, 4)))
    inputs = [torch.randn(13, 2, 8) for _ in range(3)]
    exact = attend(*inputs, visibility, scale=0.35)
    half = attend(*(x.bfloat16() for x in inputs), visibility, scale=0.35)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0.03, atol=0.03)
