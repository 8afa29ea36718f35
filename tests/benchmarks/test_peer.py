"""The peer that benchmarks time beside ours is the same model."""

from __future__ import annotations

import pytest
import torch

from benchmarks.peer import build_peer
from tests.harness import random_model, tiny_config


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
def test_the_peer_gives_the_same_logits(application: str) -> None:
    model = random_model(tiny_config(application=application))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = model(ids).lm_logits
        found = build_peer(model)(ids, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
