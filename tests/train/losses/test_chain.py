"""CRF, MEMM and Viterbi against enumeration of all paths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.train.losses.chain import LowRankTransitions, Transitions, viterbi
from hanformer.train.losses.crf import crf, log_partition, marginals, path_score
from hanformer.train.losses.memm import memm, memm_steps
from tests.harness import EXACT

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "functions.npz")
RAGGED = (3, 0, 1, 5, 2)


def material(labels: int = 4, lengths: Sequence[int] = RAGGED) -> tuple[Layout, Tensor, Tensor, Tensor]:
    layout = Layout.of(lengths)
    emissions = torch.randn(layout.total, labels, dtype=torch.float64)
    return (
        layout,
        emissions,
        torch.randn(labels, labels, dtype=torch.float64),
        torch.randint(labels, (layout.total,)),
    )


def score(emissions: Tensor, path: Sequence[int], steps: Tensor) -> float:
    nodes = sum(float(emissions[place, label]) for place, label in enumerate(path))
    return nodes + sum(float(steps[left, right]) for left, right in pairwise(path))


def paths_of(emissions: Tensor, steps: Tensor) -> dict[tuple[int, ...], float]:
    """Every path of one row and its score."""
    every = product(range(emissions.shape[1]), repeat=len(emissions))
    return {path: score(emissions, path, steps) for path in every}


def rows_of(layout: Layout, *packed: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(values.split(list(layout.lengths)) for values in packed), strict=True)


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None, derandomize=True, max_examples=25)
def test_crf_sums_over_every_path(lengths: list[int], labels: int, seed: int) -> None:
    torch.manual_seed(seed)
    layout, emissions, steps, targets = material(labels, lengths)
    found = crf(emissions, targets, steps, layout)
    best = viterbi(emissions, steps, layout)
    total = log_partition(emissions, steps, layout)
    for row, (nodes, own, path) in enumerate(rows_of(layout, emissions, targets, best)):
        scores = paths_of(nodes, steps)
        partition = math.log(sum(map(math.exp, scores.values())))
        assert total[row].item() == pytest.approx(partition, abs=1e-10)
        assert found[row].item() == pytest.approx(partition - score(nodes, own.tolist(), steps), abs=1e-10)
        assert tuple(path.tolist()) == max(scores, key=scores.__getitem__)


def test_crf_rows_are_alone_and_its_gradients_are_those_of_differences() -> None:
    layout, emissions, steps, targets = material()
    emissions.requires_grad_()
    steps.requires_grad_()
    found = crf(emissions, targets, steps, layout)
    alone = [
        crf(nodes, own, steps, Layout.of((len(nodes),))) for nodes, own in rows_of(layout, emissions, targets)
    ]
    torch.testing.assert_close(found, torch.cat(alone), **EXACT)
    assert found[1] == 0 and found.shape == (5,)
    assert torch.autograd.gradcheck(lambda e, t: crf(e, targets, t, layout), (emissions, steps))


def test_crf_without_transitions_is_softmax() -> None:
    layout, emissions, _, targets = material()
    each = -emissions.log_softmax(-1)[torch.arange(layout.total), targets]
    expected = [float(row.sum()) for (row,) in rows_of(layout, each)]
    found = crf(emissions, targets, torch.zeros(4, 4).double(), layout)
    assert found.tolist() == pytest.approx(expected)
    torch.testing.assert_close(
        marginals(emissions, torch.zeros(4, 4).double(), layout), emissions.softmax(-1), **EXACT
    )


def test_forbidden_transitions_and_dead_ends() -> None:
    """Label 2 cannot be entered, so after the first place all of its paths are gone: no NaN, no gradient."""
    layout = Layout.of((3, 1))
    emissions = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    steps = torch.randn(3, 3, dtype=torch.float64)
    steps[:, 2] = -math.inf
    steps.requires_grad_()
    targets = torch.tensor([2, 0, 1, 2])
    found = crf(emissions, targets, steps, layout)
    scores = paths_of(emissions[:3].detach(), steps.detach())
    expected = math.log(sum(map(math.exp, scores.values()))) - scores[2, 0, 1]
    assert found[0].item() == pytest.approx(expected)
    found.sum().backward()
    assert emissions.grad.isfinite().all() and steps.grad.isfinite().all()
    assert not emissions.grad[1:3, 2].any() and not steps.grad[:, 2].any()


def test_marginals_by_enumeration() -> None:
    layout, emissions, steps, _ = material(3)
    with torch.no_grad():
        found = marginals(emissions, steps, layout)
    assert not found.requires_grad
    for nodes, shares in rows_of(layout, emissions, found):
        scores = paths_of(nodes, steps)
        total = sum(map(math.exp, scores.values()))
        for place in range(len(nodes)):
            for label in range(3):
                through = sum(math.exp(value) for path, value in scores.items() if path[place] == label)
                assert shares[place, label].item() == pytest.approx(through / total)


def test_viterbi_golden() -> None:
    nodes, steps = (torch.from_numpy(GOLDEN[f"viterbi__{name}"]) for name in ("nodes", "trans"))
    before = nodes.clone()
    for _ in range(2):
        path = viterbi(nodes, steps, Layout.of((15,)), starts=[0, 2, 3], ends=[1, 2, 5])
        assert path.tolist() == GOLDEN["viterbi__path"].tolist()
    assert torch.equal(nodes, before), "decoding must leave its input alone"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 99))
@settings(deadline=None, derandomize=True, max_examples=25)
def test_viterbi_with_starts_and_ends(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    layout, emissions, steps, _ = material(4, lengths)
    starts, ends = (0, 2, 3), (1, 2)
    found = viterbi(emissions, steps, layout, starts=starts, ends=ends)
    for nodes, path in rows_of(layout, emissions, found):
        scores = {
            path: value
            for path, value in paths_of(nodes, steps).items()
            if path[0] in starts and path[-1] in ends
        }
        assert tuple(path.tolist()) == max(scores, key=scores.__getitem__)


def test_viterbi_says_when_nothing_is_allowed() -> None:
    layout, emissions, steps, _ = material(3, (2, 1))
    with pytest.raises(
        UserError, match=r"no path of 1 labels is allowed in row 1 \(starts \[0\], ends \[1\]\)"
    ):
        viterbi(emissions, steps, layout, starts=[0], ends=[1])
    for labels in ([], [3], [-1]):
        with pytest.raises(UserError, match="labels from 0 to 2"):
            viterbi(emissions, steps, layout, starts=labels)
    with pytest.raises(UserError, match=r"row 0"):
        viterbi(emissions, steps.fill_(-math.inf), layout)
    assert viterbi(emissions[:0], steps, Layout.of((0, 0))).tolist() == []
    assert viterbi(emissions[:1].bfloat16(), torch.zeros(3, 3), Layout.of((0, 1, 0))).shape == (1,)


def naive_memm(emissions: Tensor, path: Sequence[int], steps: Tensor) -> list[float]:
    losses = []
    for place, label in enumerate(path):
        forward = backward = emissions[place]
        if place:
            forward = (emissions[place] + steps[path[place - 1]]) / 2
        if place + 1 < len(path):
            backward = (emissions[place] + steps[:, path[place + 1]]) / 2
        each = (scores.log_softmax(-1)[label] for scores in (forward, backward))
        losses.append(-float(sum(each)) / 2)
    return losses


@pytest.mark.parametrize("low_rank", [False, True])
def test_memm(low_rank: bool) -> None:
    layout, emissions, _, targets = material()
    transitions = (LowRankTransitions(4, 2) if low_rank else Transitions(4)).double()
    for parameter in transitions.parameters():
        torch.nn.init.normal_(parameter)
    steps = transitions.matrix.detach()
    found = memm(emissions, targets, transitions, layout)
    expected = [naive_memm(nodes, own.tolist(), steps) for nodes, own in rows_of(layout, emissions, targets)]
    assert found.tolist() == pytest.approx(list(chain.from_iterable(expected)))
    found.sum().backward()
    assert all(parameter.grad.any() for parameter in transitions.parameters())


def test_memm_decodes_its_own_best_path() -> None:
    layout, emissions, steps, _ = material()
    nodes, edges = memm_steps(emissions, steps, layout)
    best = viterbi(nodes, edges, layout)
    for own, path in rows_of(layout, emissions, best):
        every = {
            labels: -sum(naive_memm(own, labels, steps)) for labels in product(range(4), repeat=len(own))
        }
        assert tuple(path.tolist()) == max(every, key=every.__getitem__)


@pytest.mark.parametrize("rate", [1.0, 100.0])
def test_rate_multiplies_what_adam_does(rate: float) -> None:
    """One step of Adam moves every stored number by the learning rate, so T by rate times as much."""
    transitions = Transitions(3, rate)
    optimizer = torch.optim.Adam(transitions.parameters(), lr=0.01, eps=0.0)
    layout = Layout.of((6,))
    emissions, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 2, 1])
    crf(emissions, targets, transitions.matrix, layout).sum().backward()
    optimizer.step()
    torch.testing.assert_close(transitions.matrix.abs().detach(), torch.full((3, 3), 0.01 * rate))


@pytest.mark.parametrize("transitions", [Transitions(5, 3.0), LowRankTransitions(5, 2, 3.0)])
def test_rows_and_columns_of_the_matrix(transitions: Transitions | LowRankTransitions) -> None:
    for parameter in transitions.parameters():
        torch.nn.init.normal_(parameter)
    labels = torch.tensor([4, 0, 0])
    torch.testing.assert_close(transitions.after(labels), transitions.matrix[labels])
    torch.testing.assert_close(transitions.before(labels), transitions.matrix.T[labels])


def test_low_rank_starts_alike_whatever_the_rate() -> None:
    torch.manual_seed(1)
    slow = LowRankTransitions(6, 2).matrix
    torch.manual_seed(1)
    torch.testing.assert_close(LowRankTransitions(6, 2, 50.0).matrix, slow)


def test_what_does_not_fit() -> None:
    layout, emissions, steps, targets = material()
    for call in (
        lambda: crf(emissions[1:], targets, steps, layout),
        lambda: path_score(emissions, targets, steps[1:], layout),
        lambda: log_partition(emissions, steps[:, 1:], layout),
        lambda: viterbi(emissions, steps[1:], layout),
    ):
        with pytest.raises(UserError, match=r"expected emissions \[11, labels\]"):
            call()
    with pytest.raises(UserError, match=r"memm: expected emissions \[11, labels\]"):
        memm(emissions[1:], targets, Transitions(4), layout)
    for rate in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UserError, match="rate above 0"):
            Transitions(3, rate)


def test_no_rows_and_empty_rows() -> None:
    for lengths in ((), (0, 0)):
        layout, emissions, steps, targets = material(3, lengths)
        emissions.requires_grad_()
        loss = crf(emissions, targets, steps, layout)
        assert loss.tolist() == [0.0] * len(lengths)
        loss.sum().backward()
        assert emissions.grad is not None
        assert memm(emissions, targets, Transitions(3), layout).shape == (0,)
