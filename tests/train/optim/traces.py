"""Optimizers run over one weight, and the golden gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hanformer.train.optim.base import ParameterGroups

FOLDER = Path(__file__).parents[2] / "golden"
Make = Callable[[ParameterGroups], torch.optim.Optimizer]


def golden(name: str, file: str = "functions.npz") -> Tensor:
    with np.load(FOLDER / file) as found:
        return torch.tensor(found[name])


def trace(
    make: Make, start: Tensor, gradients: Sequence[Tensor], kind: str = "matrix", decay: float = 0.0
) -> list[Tensor]:
    """The weight after each update."""
    weight = nn.Parameter(start.clone())
    optimizer = make([{"params": [weight], "kind": kind, "weight_decay": decay}])
    found = []
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        found.append(weight.detach().clone())
    return found


def random_case(*shape: int, updates: int = 12, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """A start and gradients, float64."""
    generator = torch.Generator().manual_seed(seed)
    start, *gradients = torch.randn(updates + 1, *shape, generator=generator, dtype=torch.float64)
    return start, list(gradients)


def assert_traces(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(torch.stack(list(actual)), torch.stack(list(expected)), rtol=0, atol=tolerance)
