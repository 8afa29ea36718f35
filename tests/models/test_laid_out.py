"""Kernels of TensorFlow serve as they lie in their file, and are laid out before anything is trained."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.models import load, save
from hanformer.models.laid_out import is_whole, lay_out
from hanformer.models.transformer import Transformer
from tests.harness import random_model, tiny_config

IDS = torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(random_model(tiny_config(), ("lm",), torch.float32), tmp_path, format="tensorflow")
    return tmp_path


def strided(model: torch.nn.Module) -> list[str]:
    return [name for name, value in model.named_parameters() if not value.is_contiguous()]


def digest(folder: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())]


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4).flatmap(
        lambda shape: st.tuples(st.just(shape), st.permutations(range(len(shape))))
    ),
    st.integers(1, 2),
)
def test_whole_is_what_fills_its_memory(shaped: tuple[list[int], list[int]], step: int) -> None:
    shape, order = shaped
    assert is_whole(torch.zeros(shape).permute(order))
    wide = torch.zeros([*shape[:-1], shape[-1] * 2])[..., ::2]
    filled = wide.numel() <= 1 or all(size == 1 for size in shape)
    assert is_whole(wide.permute(order)) == (filled or wide.is_contiguous())
    assert is_whole(torch.zeros(shape)[::step].contiguous())


def test_kernels_are_not_copied_until_training(folder: Path) -> None:
    before = digest(folder)
    model = load(folder, heads=())
    assert any("feedforward" in name for name in strided(model))
    values = {name: value.clone() for name, value in model.state_dict().items()}
    plain = copy.deepcopy(model)
    lay_out(plain)
    torch.testing.assert_close(model(IDS).sequence, plain(IDS).sequence, rtol=1e-5, atol=1e-5)
    assert not strided(model.train())
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    one_step(model)
    assert not torch.equal(model.embeddings.token.weight, values["embeddings.token.weight"])
    assert digest(folder) == before


def one_step(model: Transformer) -> Tensor:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    loss = model.eval()(IDS).sequence.sin().sum()
    loss.backward()
    optimizer.step()
    return loss.detach()


def test_a_step_without_training_mode_is_the_same(folder: Path) -> None:
    """Gradients lie as their weights do, so even an optimizer that walks through memory meets one order."""
    lying, plain = load(folder, heads=()), load(folder, heads=())
    lay_out(plain)
    torch.testing.assert_close(one_step(lying), one_step(plain), rtol=1e-5, atol=1e-5)
    assert strided(lying) and not strided(plain)
    for name, value in plain.named_parameters():
        torch.testing.assert_close(lying.get_parameter(name), value, rtol=1e-4, atol=1e-3)


def test_another_dtype_is_laid_out_at_once(folder: Path) -> None:
    assert not strided(load(folder, heads=(), dtype=torch.bfloat16))


@pytest.mark.parametrize("format", ["safetensors", "transformers", "tensorflow"])
def test_what_lies_transposed_is_saved_as_everything(folder: Path, tmp_path: Path, format: str) -> None:
    model = load(folder, heads=())
    save(model, tmp_path / "again", format=format)
    again = load(tmp_path / "again", heads=())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
