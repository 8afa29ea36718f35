"""Lookahead, layer adaptation and lazy rows against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hanformer.train.optim.signs import Lion, Tiger
from hanformer.train.optim.wrappers import LayerAdaptation, LazyRows, Lookahead
from hanformer.train.optimizer import rule_named
from tests.harness.optimizers import OPTIONS, groups_of, small_model, take_steps
from tests.train.optim import naive
from tests.train.optim.traces import Make, assert_traces, random_case, trace


def adam(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.01, eps=1e-6)


@pytest.mark.parametrize(("every", "share"), [(5, 0.5), (1, 0.3), (3, 0.8)])
def test_lookahead(every: int, share: float) -> None:
    start, gradients = random_case(3, 4, updates=17)
    found = trace(lambda g: Lookahead(adam(g), every, share), start, gradients)
    assert_traces(found, naive.lookahead(start, gradients, 0.01, every=every, share=share))


def test_lookahead_that_takes_all_is_the_inner_rule() -> None:
    start, gradients = random_case(3, 4)
    assert_traces(
        trace(lambda g: Lookahead(adam(g), 1, 1.0), start, gradients), trace(adam, start, gradients)
    )


def test_slow_weights_of_a_parameter_that_joins_late() -> None:
    weight, late = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.full((2,), 4.0))
    optimizer = Lookahead(torch.optim.SGD([weight, late], lr=1.0), every=4)
    for update in range(4):
        weight.grad, late.grad = torch.ones(2), torch.ones(2) if update >= 2 else None
        optimizer.step()
    assert torch.equal(weight, torch.full((2,), -2.0)) and torch.equal(late, torch.full((2,), 3.0))


def test_layer_adaptation_of_a_first_update() -> None:
    start, gradients = random_case(5, 6, updates=1)
    found = trace(lambda g: LayerAdaptation(adam(g)), start, gradients, decay=0.3)
    proposals = naive.adam(start, gradients, 0.01, epsilon=1e-6, decay=0.3)
    assert_traces(found, [naive.adapted(start, proposals, 0.01)])
    assert float((found[0] - start).norm() / start.norm()) == pytest.approx(0.01, rel=1e-12)


def test_layer_adaptation_forgets_the_size_of_the_update() -> None:
    start, gradients = random_case(5, 6)

    def small(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
        return LayerAdaptation(torch.optim.SGD(groups, lr=0.01))

    large = [1000 * gradient for gradient in gradients]
    assert_traces(trace(small, start, gradients), trace(small, start, large))


@pytest.mark.parametrize("kind", ["bias", "norm"])
def test_spared_kinds_follow_the_inner_rule(kind: str) -> None:
    start, gradients = random_case(6)
    plain = trace(adam, start, gradients, kind=kind)
    assert_traces(trace(lambda g: LayerAdaptation(adam(g)), start, gradients, kind=kind), plain)
    adapted = trace(lambda g: LayerAdaptation(adam(g)), start, gradients)
    assert not torch.allclose(adapted[-1], plain[-1])


def test_norms_of_zero_leave_the_update() -> None:
    zero = torch.zeros(3, 4, dtype=torch.float64)
    _, gradients = random_case(3, 4, updates=1)
    assert_traces(trace(lambda g: LayerAdaptation(adam(g)), zero, gradients), trace(adam, zero, gradients))
    start, _ = random_case(3, 4)
    still = trace(lambda g: LayerAdaptation(Lion(g, 0.1)), start, [zero])
    assert torch.equal(still[0], start)


def test_adapted_tiger_moves_by_the_root_mean_square() -> None:
    """A sign has norm √n, so the ratio is rms(w) exactly, where nothing decays."""
    start, gradients = random_case(5, 6, updates=1)
    found = trace(lambda g: LayerAdaptation(Tiger(g, 0.01)), start, gradients)
    expected = start - 0.01 * start.square().mean().sqrt() * gradients[0].sign()
    assert_traces(found, [expected])


@pytest.mark.parametrize("inner", [adam, lambda g: Lion(g, 0.01)], ids=["adamw", "lion"])
def test_lazy_rows(inner: Make) -> None:
    """Idle rows keep each bit though momentum and decay would move them; the others move as ever."""
    start, gradients = random_case(6, 3, updates=2)
    gradients[1][::2] = 0.0
    lazy = trace(lambda g: LazyRows(inner(g)), start, gradients, kind="embedding", decay=0.3)
    plain = trace(inner, start, gradients, kind="embedding", decay=0.3)
    assert torch.equal(lazy[0], plain[0]) and torch.equal(lazy[1][1::2], plain[1][1::2])
    assert torch.equal(lazy[1][::2], lazy[0][::2]) and not torch.equal(plain[1][::2], plain[0][::2])


def test_the_smallest_gradient_is_one() -> None:
    """Its square would be zero in float32."""
    start, gradient = torch.ones(2, 3), torch.tensor([[0.0, 1e-30, 0.0], [0.0, 0.0, 0.0]])
    found = trace(lambda g: LazyRows(Lion(g, 0.1)), start, [gradient], kind="embedding")
    assert not torch.equal(found[0][0], start[0]) and torch.equal(found[0][1], start[1])


def test_other_kinds_are_not_lazy() -> None:
    start, gradients = random_case(6, 3, updates=2)
    gradients[1][:] = 0.0
    found = trace(lambda g: LazyRows(adam(g)), start, gradients, kind="matrix")
    assert_traces(found, trace(adam, start, gradients))


@pytest.mark.parametrize("name", ["adaxw", "lazy+lion", "lookahead+adafactor"])
def test_sparse_gradients(name: str) -> None:
    """An embedding with sparse=True trains as the dense one does."""
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = nn.Embedding(9, 4, sparse=sparse)
        optimizer = rule_named(name)([{"params": [table.weight], "kind": "embedding"}], OPTIONS)
        for _ in range(3):
            optimizer.zero_grad()
            table(torch.tensor([1, 1, 5])).square().sum().backward()
            optimizer.step()
        found.append(table.weight.detach())
    torch.testing.assert_close(*found)


def test_wrappers_share_rates_and_states() -> None:
    model = small_model()
    optimizer = rule_named("lookahead+layerwise+adamw")(groups_of(model), OPTIONS)
    optimizer.load_state_dict(optimizer.state_dict())
    assert isinstance(optimizer, Lookahead) and isinstance(optimizer.inner, LayerAdaptation)
    innermost = optimizer.inner.inner
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    assert all(group["lr"] == 0.0 for group in innermost.param_groups)
    take_steps(list(model.parameters()), [optimizer], 1)
    assert all("slow" in state and "exp_avg" in state for state in innermost.state.values())
