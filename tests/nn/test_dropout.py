"""Dropout: how much it drops, what it keeps, and that entries are independent."""

from __future__ import annotations

import pytest
import torch

from hanformer.nn.layers.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_scale(rate: float, dtype: torch.dtype) -> None:
    exact = round(rate * 256) / 256
    dropped = Dropout(rate)(torch.ones(200, 501, dtype=dtype))
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(exact, abs=0.006)
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - exact)))


def test_neighbours_of_one_draw_are_independent() -> None:
    kept = (Dropout(0.5)(torch.ones(8 * 20_000)) != 0).double().view(-1, 8)
    correlation = torch.corrcoef(kept.T) - torch.eye(8)
    assert correlation.abs().max() < 0.035
    # Each of the eight bytes is uniform, the highest one too.
    assert (kept.mean(0) - 0.5).abs().max() < 0.02


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (2, 0, 4)])
def test_odd_and_empty_shapes(shape: tuple[int, ...]) -> None:
    assert Dropout(0.3)(torch.ones(shape)).shape == shape


def test_gradient_is_the_mask_and_evaluation_changes_nothing() -> None:
    layer = Dropout(0.5)
    x = torch.randn(64, 3, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(out.detach(), x.detach() * x.grad)
    assert layer.eval()(x) is x


def test_the_seed_repeats_it() -> None:
    layer = Dropout(0.5)
    torch.manual_seed(3)
    first = layer(torch.ones(99))
    torch.manual_seed(3)
    assert torch.equal(first, layer(torch.ones(99)))
