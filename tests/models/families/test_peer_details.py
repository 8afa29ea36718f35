"""Beside transformers: every format that it writes, and what it gives on request."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer.models import load, save
from tests.models.families.peers import (
    PEERS,
    TOLERANCES,
    Peer,
    ask_ours,
    ask_peer,
    compare,
    peer_model,
    ragged,
)

#: One of each family.
SOME = tuple(
    {(peer.family, peer.kind): peer for peer in PEERS if peer.kind.endswith(("LM", "Generation"))}.values()
)
#: Those of one stack, which give hidden states and attention weights.
SINGLE = tuple(peer for peer in SOME if not peer.family.startswith(("t5", "mt5")))
TRANSLATING = tuple(peer for peer in SOME if peer not in SINGLE)


def named(peer: Peer) -> str:
    return f"{peer.kind}-{peer.family}"


@pytest.mark.parametrize("peer", SOME, ids=named)
def test_every_file_that_transformers_writes(peer: Peer, tmp_path: Path) -> None:
    """One .safetensors, several, and a .bin, in which tied tensors stand twice."""
    theirs = peer_model(peer)
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="8KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    theirs.config.save_pretrained(tmp_path / "bin")
    torch.save(theirs.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    models = [load(tmp_path / form, heads=peer.heads) for form in ("one", "many", "bin")]
    expected = models[0].state_dict()
    for model in models:
        assert model.config.family == peer.family
        assert list(model.state_dict()) == list(expected)
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    batch = ragged(peer, left=False)
    compare(ask_ours(models[2], peer, batch), ask_peer(theirs, peer, batch), peer, batch, torch.float32)


@pytest.mark.parametrize("peer", SOME, ids=named)
def test_a_file_is_loaded_without_a_word(
    peer: Peer, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    peer_model(peer).save_pretrained(tmp_path)
    recwarn.clear()
    load(tmp_path, heads=peer.heads)
    assert not [str(found.message) for found in recwarn]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("peer", SINGLE, ids=named)
def test_states_and_weights_on_request(peer: Peer, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = peer_model(peer, dtype)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path, heads=peer.heads)
    batch = ragged(peer, left=False)
    expected = ask_peer(theirs, peer, batch, output_hidden_states=True, output_attentions=True)
    found = ask_ours(ours, peer, batch, hidden_states=True, attention_scores=True)
    assert len(found.hidden_states) == len(expected.hidden_states) == 3
    for own, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(own[batch.real], other[batch.real], **TOLERANCES[dtype])
    assert len(found.attention_scores) == len(expected.attentions) == 2
    queries = batch.real[:, None, :].expand(-1, found.attention_scores[0].shape[1], -1)
    for own, other in zip(found.attention_scores, expected.attentions, strict=True):
        torch.testing.assert_close(own[queries], other[queries], **TOLERANCES[dtype])
        assert not own[~queries].any()
    torch.testing.assert_close(found.hidden_states[-1], found.sequence, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("peer", TRANSLATING, ids=named)
def test_states_and_weights_of_both_stacks(peer: Peer, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = peer_model(peer, dtype)
    theirs.save_pretrained(tmp_path)
    batch, ours = ragged(peer, left=False), load(tmp_path)
    expected = ask_peer(theirs, peer, batch, output_hidden_states=True, output_attentions=True)
    found = ask_ours(ours, peer, batch, hidden_states=True, attention_scores=True)
    target = batch.target_real
    for own, other, real in (
        (found.encoder_hidden_states, expected.encoder_hidden_states, batch.real),
        (found.hidden_states, expected.decoder_hidden_states, target),
        (found.encoder_attention_scores, expected.encoder_attentions, batch.real),
        (found.attention_scores, expected.decoder_attentions, target),
        (found.cross_attention_scores, expected.cross_attentions, target),
    ):
        assert len(own) == len(other)
        for mine, other_layer in zip(own, other, strict=True):
            # Of weights [B, H, Q, K] the queries are moved to the second place.
            both = [x if x.dim() == 3 else x.transpose(1, 2) for x in (mine, other_layer)]
            torch.testing.assert_close(both[0][real], both[1][real], **TOLERANCES[dtype])
    torch.testing.assert_close(found.hidden_states[-1], found.sequence, rtol=0, atol=0)
    plain = ask_ours(ours, peer, batch)
    torch.testing.assert_close(plain.lm_logits, found.lm_logits, **TOLERANCES[dtype])
    assert plain.encoder_hidden_states is None and plain.cross_attention_scores is None


@pytest.mark.parametrize(
    "peer", [peer for peer in SINGLE if peer.family in ("gpt", "gpt2", "llama")], ids=named
)
def test_greedy_text_is_the_same(peer: Peer, tmp_path: Path) -> None:
    """Cached decoding here gives what `generate` gives there."""
    theirs = peer_model(peer)
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path)
    prompt = [5, 9, 3, 7]
    logits, state = ours.prompt([prompt])
    found = []
    for _ in range(8):
        found.append(int(logits.flatten().argmax()))
        logits = ours.step(torch.tensor([[found[-1]]]), state)
    expected = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert expected[0, len(prompt) :].tolist() == found


@pytest.mark.parametrize(
    "peer", [peer for peer in SOME if peer.family == "bert" and peer.kind == "BertForMaskedLM"]
)
def test_early_conversions_call_gains_gamma(peer: Peer, tmp_path: Path) -> None:
    theirs = peer_model(peer)
    theirs.config.save_pretrained(tmp_path)
    spelled = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in theirs.state_dict().items()
    }
    assert any(name.endswith("gamma") for name in spelled)
    torch.save(spelled, tmp_path / "pytorch_model.bin")
    batch = ragged(peer, left=False)
    found = ask_ours(load(tmp_path, heads=("lm",)), peer, batch)
    compare(found, ask_peer(theirs, peer, batch), peer, batch, torch.float32)


@pytest.mark.parametrize("peer", SOME, ids=named)
def test_half_precision_is_said(peer: Peer, tmp_path: Path) -> None:
    import transformers

    theirs = peer_model(peer)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load(tmp_path / "theirs", heads=peer.heads, dtype=torch.bfloat16)
    save(ours, tmp_path / "ours", format="transformers")
    again = getattr(transformers, transformers.AutoConfig.from_pretrained(tmp_path / "ours").architectures[0])
    assert again.from_pretrained(tmp_path / "ours", dtype="auto").dtype == torch.bfloat16
