"""Noise: its size, where it acts and where it does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hanformer.train.objective import Loss
from hanformer.train.tricks.noise import additive_noise, multiplicative_noise
from hanformer.train.tricks.rows import Rows
from hanformer.train.tricks.seam import embeddings_changed
from tests.harness.tricks import classifier, classify, texts
from tests.train.tricks.linear import linear


@pytest.mark.parametrize("trick", [additive_noise, multiplicative_noise])
def test_the_size_of_the_noise(trick) -> None:  # type: ignore[no-untyped-def]
    model, seen = linear(), []
    ids = torch.full((4000, 2), 3)

    def objective(model: nn.Module, batch: Tensor) -> Loss:
        return Loss(model(batch).sum(), len(batch))

    def watch(embedded: Tensor, rows: Rows) -> Tensor:
        seen.append(embedded.detach())
        return embedded

    with embeddings_changed(model, watch):
        trick(objective, 0.3)(model, ids)
    vector = model.table.weight[3].detach()
    noise = (seen[0] - vector) / (1 if trick is additive_noise else vector)
    torch.testing.assert_close(noise.std((0, 1)), torch.full_like(vector, 0.3), rtol=0.03, atol=0)
    assert noise.mean((0, 1)).abs().max() < 0.02
    assert torch.corrcoef(noise.flatten(0, 1).T).fill_diagonal_(0).abs().max() < 0.05
    assert abs(torch.corrcoef(torch.stack([noise[:, 0, 0], noise[:, 1, 0]]))[0, 1]) < 0.05


@pytest.mark.parametrize("trick", [additive_noise, multiplicative_noise])
def test_in_eval_mode_there_is_none(trick) -> None:  # type: ignore[no-untyped-def]
    model, batch = classifier(), texts()
    noisy = trick(classify, 0.5)
    assert noisy(model, batch).total != classify(model, batch).total
    assert noisy(model.eval(), batch).total == classify(model, batch).total
