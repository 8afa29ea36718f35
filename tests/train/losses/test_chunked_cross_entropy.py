"""Chunked cross-entropy equals the plain form, gradients and all, in less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hanformer.errors import UserError
from hanformer.train.losses.chunked_cross_entropy import chunked_cross_entropy
from hanformer.train.losses.cross_entropy import cross_entropy
from tests.harness import EXACT


def material(rows: int, words: int = 7, size: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    shapes = ((rows, size), (words, size), (words,))
    return [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]


@given(
    st.lists(st.integers(-1, 6), max_size=9),
    st.integers(1, 70),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
    st.booleans(),
)
@settings(deadline=None, derandomize=True)
def test_equals_the_plain_form(
    labels: list[int], at_once: int, smoothing: float, biased: bool, weighted: bool
) -> None:
    hidden, table, bias = material(len(labels))
    targets = torch.tensor(labels, dtype=torch.int64)
    weights = torch.rand(len(labels), dtype=torch.float64, requires_grad=True) if weighted else None
    leaves = [leaf for leaf in (hidden, table, bias if biased else None, weights) if leaf is not None]
    logits = hidden @ table.T + (bias if biased else 0)
    common: dict[str, Any] = {"label_smoothing": smoothing, "ignore_id": -1, "weights": weights}
    plain = cross_entropy(logits, targets, **common)
    found = chunked_cross_entropy(
        hidden, table, targets, bias=bias if biased else None, logits_at_once=at_once, **common
    )
    torch.testing.assert_close(found.total, plain.total, **EXACT)
    torch.testing.assert_close(torch.as_tensor(found.count), torch.as_tensor(plain.count))
    gradients = [torch.autograd.grad(2.5 * loss.total, leaves) for loss in (found, plain)]
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, **EXACT)


def test_shapes_of_a_padded_batch() -> None:
    hidden, table, _ = material(6)
    targets = torch.tensor([[1, 2, -100], [0, 6, 3]])
    found = chunked_cross_entropy(hidden.view(2, 3, 3), table, targets)
    torch.testing.assert_close(found.total, cross_entropy(hidden @ table.T, targets.flatten()).total, **EXACT)


def test_only_what_needs_a_gradient_gets_one() -> None:
    hidden, table, bias = material(5)
    targets = torch.tensor([0, 1, 2, 3, 4])
    chunked_cross_entropy(hidden, table.detach(), targets, bias=bias).total.backward()
    assert table.grad is None and hidden.grad is not None and bias.grad is not None
    frozen = chunked_cross_entropy(hidden.detach(), table.detach(), targets)
    assert not frozen.total.requires_grad


class Watch(TorchDispatchMode):
    """The largest tensor that was made, and how many matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.products = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.largest = max(self.largest, found.numel())
        self.products += "mm" in function.__name__
        return found


def test_memory() -> None:
    """Nothing of the size of all logits is ever made, forward or backward."""
    hidden, table, _ = material(64, words=200, size=4, dtype=torch.float32)
    targets = torch.randint(200, (64,))
    with Watch() as plain:
        cross_entropy(hidden @ table.T, targets).total.backward()
    with Watch() as chunked:
        chunked_cross_entropy(hidden, table, targets, logits_at_once=1600).total.backward()
    assert plain.largest == 64 * 200
    assert chunked.largest == 1600
    assert chunked.products == 3 * 8


def test_without_gradients_none_are_made() -> None:
    hidden, table, _ = material(8)
    with torch.no_grad(), Watch() as watch:
        chunked_cross_entropy(hidden, table, torch.zeros(8, dtype=torch.int64), logits_at_once=7 * 8)
    assert watch.products == 1


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision(autocast: bool) -> None:
    """As near to the wide result as the plain form is."""
    wide = material(40, words=50, size=16, dtype=torch.float32)
    narrow = [
        leaf.detach().to(torch.float32 if autocast else torch.bfloat16).requires_grad_() for leaf in wide
    ]
    targets = torch.randint(50, (40,))
    exact = cross_entropy(wide[0] @ wide[1].T, targets)
    exact.total.backward()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = chunked_cross_entropy(narrow[0], narrow[1], targets, logits_at_once=500)
    found.total.backward()
    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.total, exact.total, rtol=0.01, atol=0)
    for left, right in zip(narrow[:2], wide[:2], strict=True):
        assert left.grad.dtype == left.dtype
        torch.testing.assert_close(left.grad.float(), right.grad, rtol=0.05, atol=0.05)
    assert found.total.item() != exact.total.item(), "nothing ran in half precision"


def test_autocast_leaves_float64_alone() -> None:
    hidden, table, _ = material(4)
    targets = torch.zeros(4, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        found = chunked_cross_entropy(hidden, table, targets)
    torch.testing.assert_close(found.total, cross_entropy(hidden @ table.T, targets).total, **EXACT)


def test_a_second_derivative_is_refused() -> None:
    """The first with a graph already: what is stored would pass for a constant, and nobody would know."""
    hidden, table, _ = material(3)
    loss = chunked_cross_entropy(hidden, table, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(UserError, match="no second derivative: use cross_entropy"):
        torch.autograd.grad(loss.total, hidden, create_graph=True)


def test_what_does_not_fit() -> None:
    hidden, table, _ = material(3)
    for targets in (torch.zeros(2, dtype=torch.int64), torch.zeros(3, 1, dtype=torch.int64)):
        with pytest.raises(UserError, match="expected hidden"):
            chunked_cross_entropy(hidden, table, targets)
    with pytest.raises(UserError, match="expected hidden"):
        chunked_cross_entropy(hidden, table[:, 1:], torch.zeros(3, dtype=torch.int64))
    with pytest.raises(UserError, match="smoothing from 0 to 1"):
        chunked_cross_entropy(hidden, table, torch.zeros(3, dtype=torch.int64), label_smoothing=1.5)
