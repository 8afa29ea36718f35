"""Heads that must stop: definitions, bounds, and the log form against plain products."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.nn.layers.self_terminating import (
    NonMonotonic,
    SelfTerminating,
    StopHead,
    log1mexp,
    log_going_on,
    with_end,
)
from hanformer.theory.termination import certain_end

RULES = [SelfTerminating, NonMonotonic]
scores = st.lists(st.floats(-8, 8), min_size=1, max_size=30)
epsilons = st.floats(1e-3, 0.5)


def naive(rule: object, values: list[float]) -> list[float]:
    """p(end) of one row by the published products, in plain numbers."""
    found, product = [], 1.0
    for step, z in enumerate(values, start=1):
        sigmoid = 1 / (1 + math.exp(-z))
        if isinstance(rule, SelfTerminating):
            product *= (1 - rule.epsilon) * sigmoid
            found.append(1 - product)
        else:
            bound = 1 - (1 - rule.epsilon) ** step
            found.append((1 - sigmoid) * bound + sigmoid)
    return found


def end_probability(rule: object, values: list[float]) -> torch.Tensor:
    going_on = log_going_on(rule, torch.tensor(values, dtype=torch.float64), [len(values)])
    return log1mexp(going_on).exp()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (NonMonotonic(0.1), [0.20728263, 0.40784255, 0.6355, 0.82354753]),
        (SelfTerminating(0.1), [0.89271737, 0.97403253, 0.98831464, 0.99231159]),
    ],
)
def test_known_values(rule: object, expected: list[float]) -> None:
    found = end_probability(rule, [-2.0, -1.0, 0.0, 1.0])
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-8)


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(RULES), scores, epsilons)
def test_definition_and_lower_bound(kind: type, values: list[float], epsilon: float) -> None:
    rule = kind(epsilon)
    found = end_probability(rule, values)
    assert found.tolist() == pytest.approx(naive(rule, values), rel=1e-9, abs=1e-12)
    bounds = [1 - (1 - epsilon) ** (step + 1) for step in range(len(values))]
    assert all(p >= bound - 1e-12 for p, bound in zip(found.tolist(), bounds, strict=True))


@settings(deadline=None, derandomize=True)
@given(scores, epsilons)
def test_self_terminating_never_falls(values: list[float], epsilon: float) -> None:
    found = end_probability(SelfTerminating(epsilon), values)
    assert (found.diff() >= 0).all()


def test_the_successor_can_fall() -> None:
    assert (end_probability(NonMonotonic(0.01), [2.0, -5.0]).diff() < 0).all()


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(RULES), st.lists(scores, min_size=1, max_size=5))
def test_rows_of_a_packed_batch_start_anew(kind: type, rows: list[list[float]]) -> None:
    packed = torch.tensor([value for row in rows for value in row], dtype=torch.float64)
    together = log_going_on(kind(0.01), packed, [len(row) for row in rows])
    alone = [log_going_on(kind(0.01), torch.tensor(row, dtype=torch.float64), [len(row)]) for row in rows]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("end_id", [0, 3, 6])
def test_whole_vocabulary_is_a_distribution_over_the_usual_softmax(kind: type, end_id: int) -> None:
    logits, z = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    going_on = log_going_on(kind(0.05), z, [2, 3])
    found = with_end(logits, going_on, end_id).exp()
    torch.testing.assert_close(found.sum(-1), torch.ones(5, dtype=torch.float64))
    others = [token for token in range(7) if token != end_id]
    expected = going_on.exp()[:, None] * logits[:, others].softmax(-1)
    torch.testing.assert_close(found[:, others], expected)
    torch.testing.assert_close(found[:, end_id], 1 - going_on.exp())


@pytest.mark.parametrize("kind", RULES)
def test_long_rows_do_not_underflow(kind: type) -> None:
    z = torch.full((20_000,), -3.0 if kind is SelfTerminating else 3.0, requires_grad=True)
    found = with_end(torch.zeros(20_000, 4), log_going_on(kind(0.01), z, [20_000]), 0)
    found.sum().backward()
    assert found.isfinite().all() and z.grad is not None and z.grad.isfinite().all()


@pytest.mark.parametrize("kind", RULES)
def test_gradients(kind: type) -> None:
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    z = torch.randn(6, dtype=torch.float64, requires_grad=True)

    def whole(logits: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return with_end(logits, log_going_on(kind(0.1), z, [4, 2]), 2)

    assert torch.autograd.gradcheck(whole, (logits, z))
    assert torch.autograd.gradgradcheck(whole, (logits, z))


def test_a_vanishing_epsilon_leaves_a_head_of_two_ways() -> None:
    z, logits = torch.randn(4, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    found = with_end(logits, log_going_on(NonMonotonic(1e-14), z, [4]), 0).exp()
    torch.testing.assert_close(found[:, 0], z.sigmoid())
    torch.testing.assert_close(found[:, 1:], (1 - z.sigmoid())[:, None] * logits[:, 1:].softmax(-1))


@given(st.floats(-700, -1e-12))
def test_log1mexp(value: float) -> None:
    found = float(log1mexp(torch.tensor(value, dtype=torch.float64)))
    expected = math.log(-math.expm1(value)) if value > -1 else math.log1p(-math.exp(value))
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("epsilon", "steps"), [(1e-2, 69), (1e-3, 693), (5e-4, 1386), (1e-4, 6932)])
@pytest.mark.parametrize("kind", RULES)
def test_greedy_decoding_stops_in_time_whatever_the_scores(kind: type, epsilon: float, steps: int) -> None:
    stubborn = 50.0 if kind is SelfTerminating else -50.0
    p = end_probability(kind(epsilon), [stubborn] * (steps + 1))
    first = int((p > 0.5).nonzero()[0]) + 1
    assert first == certain_end(epsilon) == steps


@pytest.mark.parametrize("kind", RULES)
def test_an_untrained_head_lets_texts_go_on(kind: type) -> None:
    head = StopHead(8, 1, kind(1e-3))
    found = head(torch.zeros(20, 8), torch.zeros(20, 6), [20]).exp()[:, 1]
    assert 0.01 < found[0] < 0.03 and found[-1] < 0.35


def test_half_precision_is_computed_in_float32() -> None:
    head = StopHead(8, 1, SelfTerminating(0.01)).to(torch.bfloat16)
    hidden, logits = torch.randn(5, 8).bfloat16(), torch.randn(5, 6).bfloat16()
    found = head(hidden, logits, [2, 3])
    assert found.dtype == torch.float32 and found.exp().sum(-1).allclose(torch.ones(5))


def test_mistakes_are_refused() -> None:
    for kind in RULES:
        for epsilon in (0.0, 1.0, -1.0, math.nan):
            with pytest.raises(UserError, match="epsilon between 0 and 1"):
                kind(epsilon)
    with pytest.raises(UserError, match="vocabulary of at least 2"):
        with_end(torch.zeros(1, 3), torch.zeros(1), 3)
    with pytest.raises(UserError, match="vocabulary of at least 2"):
        with_end(torch.zeros(1, 1), torch.zeros(1), 0)
    with pytest.raises(UserError, match=r"expected scores \[3\]"):
        log_going_on(SelfTerminating(), torch.zeros(2), [2, 1])
