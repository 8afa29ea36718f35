"""Truncations against transformers, closed forms and the exact distribution; the end token that stays."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation import logits_process as peer

from hanformer.decode import Sample
from hanformer.decode import truncation as ours
from hanformer.decode.search import Row
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table

P = torch.tensor([0.4, 0.3, 0.2, 0.08, 0.02], dtype=torch.float64)
MAKERS = [
    (lambda v: ours.Temperature(v), lambda v: peer.TemperatureLogitsWarper(v)),
    (lambda v: ours.TopK(math.ceil(9 * v)), lambda v: peer.TopKLogitsWarper(math.ceil(9 * v))),
    (lambda v: ours.TopP(v), lambda v: peer.TopPLogitsWarper(v)),
    (lambda v: ours.MinP(v), lambda v: peer.MinPLogitsWarper(v)),
    (lambda v: ours.Typical(v), lambda v: peer.TypicalLogitsWarper(v)),
    (lambda v: ours.Epsilon(v), lambda v: peer.EpsilonLogitsWarper(v)),
    (lambda v: ours.Eta(v), lambda v: peer.EtaLogitsWarper(v)),
]
NAMES = ["temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"]
FILTERS = [make(0.3) for make, _ in MAKERS] + [ours.Mirostat(1.0)]


def random_logits(seed: int, rows: int = 4, size: int = 9, forbidden: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, size, generator=generator)
    if forbidden:
        logits[torch.rand(rows, size, generator=generator) < 0.3] = -math.inf
        logits[:, 1] = 0.1
    return logits


def kept(logits: torch.Tensor) -> list[int]:
    return (logits > -math.inf).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("makers", MAKERS, ids=NAMES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.01, 0.99), st.booleans())
def test_equals_transformers(makers, seed, value, forbidden) -> None:
    # transformers' eta takes the entropy of a row with -inf for NaN where torch.distributions checks it.
    logits = random_logits(seed, forbidden=forbidden)
    before = logits.clone()
    mine = makers[0](value)(logits, [Row(0)] * 4)
    torch.testing.assert_close(mine, makers[1](value)(None, logits), rtol=1e-6, atol=0)
    assert torch.equal(logits, before)


def test_typical_and_eta_by_hand() -> None:
    order = [1, 2, 0, 3, 4]  # by | surprise - entropy |
    for count, mass in enumerate([0.3, 0.5, 0.9, 0.98, 1.0], 1):
        assert kept(ours.Typical(mass - 1e-9)(P.log()[None], [])[0]) == sorted(order[:count])
    assert kept(ours.Eta(0.01)(P.log()[None], [])[0]) == [0, 1, 2, 3, 4]
    assert kept(ours.Eta(0.5)(P.log()[None], [])[0]) == [0, 1, 2]  # sqrt(.5) exp(-1.3299) = 0.187
    assert kept(ours.Epsilon(0.1)(P.log()[None], [])[0]) == [0, 1, 2]
    assert kept(ours.MinP(0.5)(P.log()[None], [])[0]) == [0, 1, 2]


@pytest.mark.parametrize("each", FILTERS, ids=repr)
def test_smallest_and_impossible_rows(each) -> None:
    assert kept(each(torch.tensor([[3.0]]), [Row(0)])[0]) == [0]
    assert not kept(each(torch.full((1, 4), -math.inf), [Row(0)])[0])
    equal = each(torch.zeros(2, 4), [Row(0), Row(1)])
    assert all(kept(row) for row in equal)
    assert each(torch.zeros(0, 4), []).shape == (0, 4)


@pytest.mark.parametrize("each", [ours.TopP(1.0), ours.Typical(1.0), ours.MinP(0.0), ours.Epsilon(0.0)])
def test_neutral_settings_change_nothing(each) -> None:
    logits = random_logits(5)
    assert torch.equal(each(logits, [Row(0)] * 4), logits)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from(FILTERS), st.integers(0, 8))
def test_the_end_token_is_never_removed(seed, inner, end) -> None:
    logits, rows = random_logits(seed), [Row(0)] * 4
    filtered, plain = ours.KeepEnd(inner, end)(logits, rows), inner(logits, rows)
    assert (filtered[:, end] > -math.inf).all()
    others = [token for token in range(9) if token != end]
    assert torch.equal(filtered[:, others], plain[:, others])
    was_kept = plain[:, end] > -math.inf
    assert torch.equal(filtered[:, end], torch.where(was_kept, plain[:, end], logits[:, end]))


def test_a_forbidden_end_stays_forbidden() -> None:
    logits = random_logits(1)
    logits[:, 3] = -math.inf
    assert (ours.KeepEnd(ours.TopK(2), 3)(logits, [Row(0)] * 4)[:, 3] == -math.inf).all()
    with pytest.raises(UserError, match=r"end token in 0\.\.8, got 9"):
        ours.KeepEnd(ours.TopK(2), 9)(logits, [Row(0)] * 4)


def test_consistent_top_k_stops_by_the_geometric_law_where_top_k_never_does() -> None:
    table = torch.tensor([[0.2, 0.4, 0.4]] * 3, dtype=torch.float64).log()
    consistent = Sample(samples=4000, more=(ours.KeepEnd(ours.TopK(2), END),))
    [found] = decode(table, [[1]], consistent, 6)
    for length in range(6):
        expected = 0.8**length
        deviation = math.sqrt(expected * (1 - expected) / 4000)
        share = sum(len(h.tokens) >= length for h in found) / 4000
        assert abs(share - expected) <= 4 * deviation
    [endless] = decode(table, [[1]], Sample(samples=50, top_k=2), 6)
    assert not any(h.finished for h in endless)


def test_mirostat_follows_the_loop_of_its_definition() -> None:
    table, rule = random_table(8, 1, 3), Sample(samples=30, seed=2, more=(ours.Mirostat(1.2, 0.4),))
    [found] = decode(table, [[2]], rule, 12)
    bits = -table.log_softmax(-1) / math.log(2)
    for hypothesis in found:
        limit, last = 2 * 1.2, 2
        for token in hypothesis.tokens:
            surprise = float(bits[last, token])
            assert surprise <= limit + 1e-9 or surprise == float(bits[last].min())
            limit, last = limit - 0.4 * (surprise - 1.2), token


def test_mirostat_keeps_the_mean_surprise_near_its_target() -> None:
    table = random_table(40, 1, 4)
    table[:, END] = -math.inf
    for target in (2.5, 3.5):
        [[found]] = decode(table, [[2]], Sample(more=(ours.Mirostat(target, 0.3),)), 400)
        assert -found.score / math.log(2) / 400 == pytest.approx(target, abs=0.15)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ours.Temperature(0),
        lambda: ours.TopK(0),
        lambda: ours.TopP(0),
        lambda: ours.MinP(1.5),
        lambda: ours.Typical(0),
        lambda: ours.Epsilon(1),
        lambda: ours.Eta(-0.1),
        lambda: ours.Mirostat(0),
        lambda: ours.Mirostat(3, math.nan),
    ],
)
def test_impossible_settings_are_refused(make) -> None:
    with pytest.raises(UserError, match="expected"):
        make()
