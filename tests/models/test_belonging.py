"""What is put into a model: every mistake is told, and nothing is computed from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.belonging import device_named
from tests.models.families.tiny import tiny_family

BATCHES = [
    ([[1, 2]], "expected a tensor of token ids .*got list"),
    (np.array([[1, 2]]), "expected a tensor of token ids .*got ndarray"),
    (torch.tensor([[1.0, 2.0]]), r"expected ids as torch\.int64, got torch\.float32"),
    (torch.tensor([[True]]), r"expected ids as torch\.int64, got torch\.bool"),
    (torch.tensor([1, 2]), r"expected a batch of ids \[rows, length\], got the shape \[2\]"),
    (torch.tensor([[[1]]]), r"expected a batch of ids \[rows, length\], got the shape \[1, 1, 1\]"),
]


@pytest.mark.parametrize(("batch", "said"), BATCHES)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_what_is_no_batch(family: str, batch: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"input_ids: {said}"):
        tiny_family(family)(batch)


@pytest.mark.parametrize(("batch", "said"), BATCHES)
def test_what_is_no_batch_of_an_encoder_and_a_decoder(batch: Any, said: str) -> None:
    model, good = tiny_family("t5.1.1"), torch.tensor([[1, 2]])
    with pytest.raises(UserError, match=f"^input_ids: {said}"):
        model(batch, decoder_input_ids=good)
    with pytest.raises(UserError, match=f"^decoder_input_ids: {said}"):
        model(good, decoder_input_ids=batch)


def test_narrow_ids_are_ids() -> None:
    model, ids = tiny_family("bert"), torch.tensor([[1, 2]])
    assert torch.equal(model(ids.int()).sequence, model(ids).sequence)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dtype": "bf16"}, "dtype: expected torch.float32, .*got 'bf16'"),
        ({"dtype": torch.int64}, "dtype: expected .*got torch.int64"),
        ({"device": "foo"}, r"device: expected cpu, cuda\[:number\] .*got 'foo'"),
        ({"device": 1.5}, "device: expected cpu"),
        ({"device": "cuda:99"}, "device: 'cuda:99' was asked for, and torch finds .* GPUs; use cpu"),
    ],
)
def test_where_to_load(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    save(tiny_family("bert"), tmp_path)
    with pytest.raises(UserError, match=said):
        load(tmp_path, **asked)


def test_devices() -> None:
    assert device_named("cpu") == device_named(torch.device("cpu")) == torch.device("cpu")
    assert load("tiny", device="cpu", dtype=torch.bfloat16).embeddings.token.weight.dtype == torch.bfloat16
