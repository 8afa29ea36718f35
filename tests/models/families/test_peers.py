"""Every family that transformers has: its checkpoints open with equal outputs, ours open there with equal ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hanformer.models import load, save
from hanformer.models.agreement import essence
from tests.models.families.peers import (
    PEERS,
    Peer,
    ask_ours,
    ask_peer,
    compare,
    exact_angles,
    peer_model,
    ragged,
)


def sides(peer: Peer) -> tuple[bool, ...]:
    """Padding on the right and on the left; the pooler of transformers looks at the first place, whatever it is."""
    return (False,) if {"pooled", "nsp_logits"} & peer.outputs.keys() else (False, True)


def check_equal(ours: Any, theirs: Any, peer: Peer) -> None:
    for left in sides(peer):
        batch = ragged(peer, left)
        compare(ask_ours(ours, peer, batch), ask_peer(theirs, peer, batch), peer, batch, theirs.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.kind}-{peer.family}")
def test_there_and_back(peer: Peer, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = peer_model(peer, dtype)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load(tmp_path / "theirs", heads=peer.heads)
    assert ours.config.family == peer.family
    check_equal(ours, theirs, peer)
    save(ours, tmp_path / "ours", format="transformers")
    again = returned(theirs, tmp_path / "ours", dtype)
    exact_angles(again)
    check_equal(ours, again, peer)
    same = load(tmp_path / "ours", heads=peer.heads)
    assert_same_weights(same, ours)


def returned(theirs: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Our folder, opened by the class of transformers that its config names, with nothing missing or left over."""
    import transformers

    from tests.models.families.peers import computing_in

    config = transformers.AutoConfig.from_pretrained(folder)
    (kind,) = config.architectures
    with computing_in(dtype):
        model, information = getattr(transformers, kind).from_pretrained(
            folder, output_loading_info=True, dtype=dtype, attn_implementation="eager"
        )
    assert not any(information.values()), information
    return model.eval()


def assert_same_weights(found: Any, expected: Any) -> None:
    state = found.state_dict()
    assert essence(found.config) == essence(expected.config)
    assert found.config.family == expected.config.family
    assert list(state) == list(expected.state_dict())
    assert all(torch.equal(state[name], value) for name, value in expected.state_dict().items())
