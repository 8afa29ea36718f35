"""Mistral's window: local attention to the left, equal to transformers, with and without a cache, there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hanformer.mechanisms import Local, Softmax
from hanformer.models import load, save
from tests.models.families.peers import LLAMA, MASKED, TOLERANCES, Peer, ask_peer, peer_model, ragged
from tests.models.families.test_peers import assert_same_weights, check_equal, returned

WINDOWED = Peer("MistralForCausalLM", {**LLAMA, "sliding_window": 3}, "llama", MASKED)
WINDOWS = [
    ({"sliding_window": 3}, Local(2)),
    ({"sliding_window": 1}, Local(0)),
    ({"sliding_window": None}, Softmax()),
    ({"sliding_window": 20}, Softmax()),
    ({}, Softmax()),
    ({"max_position_embeddings": 8192}, Local(4095)),
]


def say(folder: Path, said: dict[str, Any]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["sliding_window"]
    path.write_text(json.dumps({**values, **said}), encoding="utf-8")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_there_and_back(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = peer_model(WINDOWED, dtype)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load(tmp_path / "theirs")
    check_equal(ours, theirs, WINDOWED)
    save(ours, tmp_path / "ours", format="transformers")
    again = returned(theirs, tmp_path / "ours", dtype)
    assert again.config.model_type == "mistral"
    check_equal(ours, again, WINDOWED)
    assert_same_weights(load(tmp_path / "ours"), ours)


@pytest.mark.parametrize(("said", "attention"), WINDOWS)
def test_windows(said: dict[str, Any], attention: object, tmp_path: Path) -> None:
    peer_model(WINDOWED).save_pretrained(tmp_path)
    say(tmp_path, said)
    assert load(tmp_path).config.attention == attention


def test_the_other_types_have_the_word_and_no_window(tmp_path: Path) -> None:
    peer_model(Peer("Qwen2ForCausalLM", LLAMA, "llama", MASKED)).save_pretrained(tmp_path)
    say(tmp_path, {"sliding_window": 3, "use_sliding_window": False})
    assert load(tmp_path).config.attention == Softmax()


def test_decoding_step_by_step(tmp_path: Path) -> None:
    theirs = peer_model(WINDOWED, torch.float64)
    theirs.save_pretrained(tmp_path)
    ours, batch = load(tmp_path), ragged(WINDOWED, left=False, lengths=(9, 9))
    expected = ask_peer(theirs, WINDOWED, batch).logits
    logits, state = ours.prompt(batch.ids[:, :2].tolist())
    torch.testing.assert_close(logits, expected[:, 1], **TOLERANCES[torch.float64])
    for place in range(2, 9):
        logits = ours.step(batch.ids[:, place : place + 1], state)
        torch.testing.assert_close(logits[:, 0], expected[:, place], **TOLERANCES[torch.float64])
