"""The two sides of the training benchmark learn from the same rows: equal logits wherever something is predicted."""

from __future__ import annotations

import pytest
import torch

from benchmarks.peer import build_peer
from benchmarks.training import TARGET, make_rows, our_loss, peer_loss, peer_loss_where_learned
from tests.harness import random_model, tiny_config


@pytest.mark.parametrize("application", ["encoder", "unilm"])
def test_both_sides_have_the_same_loss(application: str) -> None:
    model = random_model(tiny_config(application=application))
    peer = build_peer(model)
    rows = make_rows([9, 20, 3, 13], model.config, 0)
    with torch.no_grad():
        ours = our_loss(model, rows)
        torch.testing.assert_close(peer_loss(peer, rows), ours, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(peer_loss_where_learned(peer, rows), ours, rtol=1e-9, atol=1e-10)
        rows.attention_mask[...] = 1
        assert (peer_loss(peer, rows) - ours).abs() > 1e-6


def test_targets_are_predicted_one_after_another() -> None:
    model = random_model(tiny_config(application="unilm"))
    rows = make_rows([20, 3], model.config, 0)
    assert rows.places.tolist() == [*range(20 - TARGET - 1, 20), 20, 21, 22]
    assert rows.layout.segments.tolist() == [0] * (20 - TARGET) + [1] * TARGET + [0, 1, 1]
    assert rows.labels[:TARGET].tolist() == rows.ids[20 - TARGET : 20].tolist()
    seen = rows.attention_mask[0, 0]
    assert seen[0].tolist() == [True] * (20 - TARGET) + [False] * TARGET
    assert seen[-1].all()
