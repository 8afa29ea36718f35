"""The encoder of a T5 alone: from the file of an encoder, and from that of both stacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer, load, save
from tests.models.families.peers import PEERS, ask_ours, peer_model, ragged

WHOLE = tuple(peer for peer in PEERS if peer.kind.endswith("5ForConditionalGeneration"))
ALONE = tuple(peer for peer in PEERS if peer.kind.endswith("EncoderModel"))


@pytest.mark.parametrize("peer", ALONE, ids=lambda peer: peer.family)
def test_an_encoder_alone_is_a_model_of_one_stack(peer: object, tmp_path: Path) -> None:
    peer_model(peer).save_pretrained(tmp_path / "theirs")
    model = load(tmp_path / "theirs")
    assert isinstance(model, Transformer) and model.heads == () and model.config.decoder_layers is None
    for format in ("safetensors", "transformers", "tensorflow"):
        save(model, tmp_path / format, format=format)
        named = model.config.family if format == "tensorflow" else None
        again = load(tmp_path / format, family=named).state_dict()
        assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("peer", WHOLE, ids=lambda peer: peer.family)
def test_the_encoder_of_both(peer: object, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    peer_model(peer).save_pretrained(tmp_path)
    recwarn.clear()
    whole, alone = load(tmp_path), load(tmp_path, changes={"decoder_layers": None}, heads=())
    assert isinstance(whole, EncoderDecoder) and isinstance(alone, Transformer) and not recwarn.list
    batch = ragged(peer, left=False)
    expected = ask_ours(whole, peer, batch).encoder_sequence
    torch.testing.assert_close(alone(batch.ids).sequence, expected, rtol=1e-5, atol=1e-5)


def test_an_encoder_has_no_vocabulary_head(tmp_path: Path) -> None:
    peer_model(ALONE[0]).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="missing.*lm_head"):
        load(tmp_path, heads=["lm"])


def test_kin_that_differ_within_are_refused(tmp_path: Path) -> None:
    """umT5 has relative positions of its own in every layer."""
    peer_model(WHOLE[1]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "umt5"}))
    with pytest.raises(UserError, match="umt5"):
        load(tmp_path)
