"""24 updates of bert4keras, and of the AdaX authors' code; the reference's defects, understood and left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hanformer.train.optim.adafactor import AdaFactor
from hanformer.train.optim.moments import AdaX, UncorrectedAdam
from hanformer.train.optim.signs import Lion
from hanformer.train.optim.wrappers import LayerAdaptation, Lookahead
from hanformer.train.schedule import piecewise_linear
from tests.train.optim import naive
from tests.train.optim.traces import Make, assert_traces, golden, trace

START, GRADIENTS = golden("opt__w0"), golden("opt__grads")
#: In float32, as bert4keras computes it, 1 - 0.999 is off by 5e-5 of itself; without correction that shows.
NEAR_999 = 1 - float(np.float32(1) - np.float32(0.999))

CASES: dict[str, tuple[Make, float]] = {
    "bert4keras_adam_bias_corrected": (lambda g: torch.optim.AdamW(g, lr=0.01, eps=1e-6, fused=True), 0.0),
    "adam_no_correction": (lambda g: UncorrectedAdam(g, 0.01, betas=(0.9, NEAR_999), epsilon=1e-6), 0.0),
    "adamw": (lambda g: torch.optim.AdamW(g, lr=0.01, eps=1e-6, fused=True), 0.01),
    "lamb": (lambda g: LayerAdaptation(torch.optim.AdamW(g, lr=0.01, eps=1e-6, fused=True)), 0.0),
    "adafactor": (lambda g: AdaFactor(g, 0.01), 0.0),
    "adafactor_momentum": (lambda g: AdaFactor(g, 0.01, beta=0.9), 0.0),
    # Named for no rate given; then its rate is the constant 1e-3.
    "adafactor_autolr": (lambda g: AdaFactor(g), 0.0),
    "lion": (lambda g: Lion(g, 0.01), 0.0),
}


@pytest.mark.parametrize("name", CASES)
def test_bert4keras(name: str) -> None:
    make, decay = CASES[name]
    assert_traces(trace(make, START, GRADIENTS, decay=decay), golden(f"opt__{name}"), 1e-6)


@pytest.mark.parametrize(
    ("name", "decay", "decoupled"), [("adax", 0.0, False), ("adax_l2", 0.05, False), ("adaxw", 0.05, True)]
)
def test_the_authors_of_adax(name: str, decay: float, decoupled: bool) -> None:
    found = trace(
        lambda g: AdaX(g, 0.01, epsilon=1e-12, decoupled=decoupled),
        START.double(),
        GRADIENTS.double(),
        decay=decay,
    )
    # Their epsilon stands beside the root of the raw second moment, which is smaller by (1 + b)^t - 1.
    assert_traces(found, golden(name, "adax.npz"), 1e-11)


def test_piecewise_rates() -> None:
    rates = [piecewise_linear([(5, 1.0), (20, 0.1)], update) for update in range(24)]
    weight = torch.nn.Parameter(START.clone())
    optimizer = torch.optim.AdamW([weight], eps=1e-6, weight_decay=0.0)
    found = []
    for rate, gradient in zip(rates, GRADIENTS, strict=True):
        optimizer.param_groups[0]["lr"] = 0.01 * rate
        weight.grad = gradient.clone()
        optimizer.step()
        found.append(weight.detach().clone())
    assert rates[0] == 0.0
    assert_traces(found, golden("opt__piecewise"), 1e-6)


def test_lookahead_with_and_without_the_defect() -> None:
    expected = golden("opt__lookahead")
    start, gradients = START.double(), list(GRADIENTS.double())
    theirs = naive.lookahead(start, gradients, 0.01, slow=torch.zeros_like(start), phase=1)
    assert_traces([weight.float() for weight in theirs], expected, 2e-6)
    ours = trace(lambda g: Lookahead(torch.optim.AdamW(g, lr=0.01, eps=1e-6)), start, gradients)
    assert_traces(ours, naive.lookahead(start, gradients, 0.01))
    assert (ours[0] - start).abs().max() < 0.011 < (theirs[0] - start).abs().max()


def lagging(start: Tensor, gradients: list[Tensor], every: int) -> list[Tensor]:
    """bert4keras' accumulation: an update by what was there before the gradient, time counted in micro-steps."""
    found, weight, total = [], start, torch.zeros_like(start)
    first = second = torch.zeros_like(start)
    for step, gradient in enumerate(gradients):
        if step % every == 0:
            mean = total / every
            first, second = 0.9 * first + 0.1 * mean, 0.999 * second + 0.001 * mean**2
            scales = 1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)
            weight = weight - 0.01 * (first / scales[0]) / ((second / scales[1]).sqrt() + 1e-6)
            total = torch.zeros_like(start)
        total = total + gradient
        found.append(weight)
    return found


def test_accumulation_with_the_defects_is_understood() -> None:
    found = lagging(START.double(), list(GRADIENTS.double()), 4)
    assert_traces([weight.float() for weight in found], golden("opt__accum4"), 2e-6)
