"""Model types of others: the same names, computed otherwise. Refused, unless the user names the family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanformer import inspect
from hanformer.errors import UserError
from hanformer.models import load
from tests.models.families.peers import BERT, LLAMA, MASKED, NARROW, ROBERTA, Peer, peer_model
from tests.models.families.test_peers import check_equal

FOREIGN = (
    Peer("GemmaForCausalLM", {**LLAMA, "head_dim": 4}, "llama", MASKED),
    Peer("Gemma2ForCausalLM", {**LLAMA, "head_dim": 4}, "llama", MASKED),
    Peer("GraniteForCausalLM", LLAMA, "llama", MASKED),
    Peer("StableLmForCausalLM", LLAMA, "llama", MASKED),
    Peer("Qwen3ForCausalLM", {**LLAMA, "head_dim": 4}, "llama", MASKED),
    Peer("Data2VecTextForMaskedLM", ROBERTA, "bert", MASKED),
    Peer("LayoutLMForMaskedLM", BERT, "bert", MASKED),
)
ERNIE = Peer("ErnieForMaskedLM", {**BERT, "use_task_id": False}, "bert", MASKED, ("lm",), 2)


def retold(folder: Path, **said: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, **said}), encoding="utf-8")


@pytest.mark.parametrize("peer", FOREIGN, ids=lambda peer: peer.kind)
def test_names_are_no_proof(peer: Peer, tmp_path: Path) -> None:
    peer_model(peer).save_pretrained(tmp_path)
    word = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["model_type"]
    with pytest.raises(UserError, match=f"model_type '{word}'.*those of {peer.family}.*family=") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert inspect(tmp_path).family is None


@pytest.mark.parametrize(
    ("kind", "part"), [("Qwen3ForCausalLM", "q_norm"), ("Gemma2ForCausalLM", "post_feedforward_layernorm")]
)
def test_parts_of_a_layer_that_the_family_has_not(kind: str, part: str, tmp_path: Path) -> None:
    (peer,) = (peer for peer in FOREIGN if peer.kind == kind)
    peer_model(peer).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"llama has no place for .*layers\.0\..*{part}"):
        load(tmp_path, family="llama")
    with pytest.warns(UserWarning, match=rf"unexpected .*layers\.0\..*{part}|unexpected \("):
        load(tmp_path, family="llama", strict=False)


def test_a_compatible_type_opens_under_the_named_family(tmp_path: Path) -> None:
    peer = Peer("LlamaForCausalLM", LLAMA, "llama", MASKED)
    theirs = peer_model(peer)
    theirs.save_pretrained(tmp_path)
    retold(tmp_path, model_type="likeness")
    check_equal(load(tmp_path, family="llama"), theirs, peer)


def test_what_stands_outside_the_layers_is_told(tmp_path: Path) -> None:
    peer_model(Peer("BertModel", BERT, "bert", MASKED)).save_pretrained(tmp_path)
    retold(tmp_path, model_type="likeness")
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "adapter.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.warns(UserWarning, match=r"unexpected \(1\): adapter\.weight"):
        load(tmp_path, family="bert")


def test_ernie_without_tasks_is_a_bert(tmp_path: Path) -> None:
    theirs = peer_model(ERNIE)
    theirs.save_pretrained(tmp_path)
    check_equal(load(tmp_path, heads=("lm",)), theirs, ERNIE)


@pytest.mark.parametrize("family", [None, "bert"])
def test_ernie_with_tasks_is_not(family: str | None, tmp_path: Path) -> None:
    values = {**NARROW, "use_task_id": True}
    peer_model(Peer("ErnieForMaskedLM", values, "bert", MASKED)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="use_task_id is True"):
        load(tmp_path, family=family)
