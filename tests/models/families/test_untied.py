"""Vocabulary heads of BERT's kin with a table of their own: equal to transformers, and kept by every format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanformer.errors import UserError
from hanformer.models import load, save
from tests.models.families.peers import BERT, MASKED, NARROW, PRETRAINED, ROBERTA, Peer, peer_model
from tests.models.families.test_peers import assert_same_weights, check_equal, returned

UNTIED = {"tie_word_embeddings": False}
PEERS = (
    Peer("BertForMaskedLM", {**BERT, **UNTIED}, "bert", MASKED, ("lm",), 2),
    Peer("BertForPreTraining", {**BERT, **UNTIED}, "bert", PRETRAINED, ("lm", "nsp"), 2),
    Peer("BertLMHeadModel", {**BERT, **UNTIED, "is_decoder": True}, "bert", MASKED, None, 2),
    Peer("RobertaForMaskedLM", {**ROBERTA, **UNTIED}, "roberta", MASKED, ("lm",), 0, False, 1),
    Peer("AlbertForMaskedLM", {**NARROW, **UNTIED}, "albert", MASKED, ("lm",), 2),
    Peer("ElectraForMaskedLM", {**NARROW, **UNTIED}, "electra_generator", MASKED, ("lm",), 2),
    Peer("RoFormerForMaskedLM", {**NARROW, **UNTIED}, "roformer", MASKED, ("lm",), 2, False),
)


def named(peer: Peer) -> str:
    return peer.kind


def retold(folder: Path, tie: bool) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "tie_word_embeddings": tie}), encoding="utf-8")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("peer", PEERS, ids=named)
def test_there_and_back(peer: Peer, dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = peer_model(peer, dtype)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load(tmp_path / "theirs", heads=peer.heads)
    assert ours.config.family == peer.family and ours.config.lm_head == "transform_untied"
    check_equal(ours, theirs, peer)
    save(ours, tmp_path / "ours", format="transformers")
    check_equal(ours, returned(theirs, tmp_path / "ours", dtype), peer)
    assert_same_weights(load(tmp_path / "ours", heads=peer.heads), ours)
    save(ours, tmp_path / "own")
    assert_same_weights(load(tmp_path / "own"), ours)


@pytest.mark.parametrize("peer", PEERS, ids=named)
def test_another_table_in_the_file_counts(peer: Peer, tmp_path: Path) -> None:
    """Whatever the config says: the two tables are both in the file, and differ."""
    theirs = peer_model(peer)
    theirs.save_pretrained(tmp_path)
    retold(tmp_path, tie=True)
    check_equal(load(tmp_path, heads=peer.heads), theirs, peer)


def test_a_copy_of_the_token_table_is_none_of_its_own(tmp_path: Path) -> None:
    theirs = peer_model(PEERS[0])
    with torch.no_grad():
        theirs.cls.predictions.decoder.weight.copy_(theirs.bert.embeddings.word_embeddings.weight)
    theirs.save_pretrained(tmp_path)
    retold(tmp_path, tie=True)
    assert load(tmp_path, heads=("lm",)).config.lm_head == "transform"


def test_one_bias_in_the_file_is_enough(tmp_path: Path) -> None:
    theirs = peer_model(PEERS[0])
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["cls.predictions.bias"] = tensors.pop("cls.predictions.decoder.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    check_equal(load(tmp_path, heads=("lm",)), theirs, PEERS[0])


def test_a_table_that_is_not_there_is_missed(tmp_path: Path) -> None:
    save(load_encoder(tmp_path), tmp_path / "encoder", format="transformers")
    with pytest.raises(UserError, match=r"missing .*lm_head\.output\.weight \(looked for cls\.predictions\."):
        load(tmp_path / "encoder", heads=("lm",))


def load_encoder(folder: Path) -> torch.nn.Module:
    peer_model(PEERS[0]).save_pretrained(folder)
    model: torch.nn.Module = load(folder, heads=())
    return model


def test_tensorflow_has_no_name_for_it(tmp_path: Path) -> None:
    encoder = load_encoder(tmp_path)
    with pytest.raises(UserError, match=r"no name for lm_head\.output\.weight; save as safetensors"):
        save(load(tmp_path, heads=("lm",)), tmp_path / "google", format="tensorflow")
    save(encoder, tmp_path / "google", format="tensorflow")
    assert_same_weights(load(tmp_path / "google", heads=()), encoder)


def test_rows_are_kept_in_both_tables(tmp_path: Path) -> None:
    peer_model(PEERS[0]).save_pretrained(tmp_path)
    whole, some = (load(tmp_path, heads=("lm",), keep_tokens=kept) for kept in (None, [5, 2, 9]))
    for name in ("embeddings.token.weight", "lm_head.output.weight", "lm_head.bias"):
        assert torch.equal(some.state_dict()[name], whole.state_dict()[name][[5, 2, 9]])
