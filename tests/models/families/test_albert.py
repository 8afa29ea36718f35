"""ALBERT with its layers set free, by the definition: the same at first, other gradients, other steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer, load, save
from tests.models.families.tiny import tiny_family
from tests.models.golden import Case

LAYERS = 3


def pair(folder: Path, dtype: torch.dtype = torch.float64) -> tuple[Transformer, Transformer]:
    """One checkpoint, opened with its layer shared and with its layers set free."""
    save(tiny_family("albert", dtype, layers=LAYERS), folder, format="tensorflow")
    heads = ("lm", "pool", "nsp")
    return load(folder, family="albert", heads=heads), load(folder, family="albert_unshared", heads=heads)


def outputs(model: Transformer) -> list[torch.Tensor]:
    ids = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 2, 0, 0]])
    found = model(ids, torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]))
    assert found.pooled is not None and found.lm_logits is not None
    return [found.sequence, found.pooled, found.lm_logits]


def loss(model: Transformer) -> torch.Tensor:
    torch.manual_seed(8)
    return sum(((value * torch.randn_like(value)).sum() for value in outputs(model)), torch.zeros(()))


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_same_when_loaded(dtype: torch.dtype, near: float, tmp_path: Path) -> None:
    shared, free = pair(tmp_path, dtype)
    assert (len(shared.stack.blocks), len(free.stack.blocks)) == (1, LAYERS)
    for ours, theirs in zip(outputs(shared), outputs(free), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=near)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_gradients_add_up(dtype: torch.dtype, near: float, tmp_path: Path) -> None:
    """dL/dθ of the shared layer is the sum of dL/dθ_i over the free ones."""
    shared, free = pair(tmp_path, dtype)
    for model in (shared, free):
        loss(model).backward()
    single = dict(shared.stack.blocks[0].named_parameters())
    several = [dict(block.named_parameters()) for block in free.stack.blocks]
    for name, parameter in single.items():
        parts = [own[name].grad for own in several]
        if name == "attention.key.bias":  # softmax does not feel it
            assert all(part.abs().max() < near for part in (*parts, parameter.grad))
            continue
        assert not torch.allclose(parts[0], parts[1]), "layers have gradients of their own"
        size = parameter.grad.abs().max()
        torch.testing.assert_close(sum(parts) / size, parameter.grad / size, rtol=0, atol=near)
    others = [name for name, _ in shared.named_parameters() if not name.startswith("stack.")]
    for name in others:
        ours, theirs = (dict(model.named_parameters())[name].grad for model in (shared, free))
        torch.testing.assert_close(ours, theirs, rtol=near, atol=near)


def test_a_step_parts_them(tmp_path: Path) -> None:
    shared, free = pair(tmp_path)
    for model in (shared, free):
        loss(model).backward()
        torch.optim.SGD(model.parameters(), lr=1e-3).step()
    first, second = (block.feedforward.expand.weight for block in free.stack.blocks[:2])
    assert not torch.allclose(first, second)
    assert not torch.allclose(outputs(shared)[0], outputs(free)[0], atol=1e-6)


def test_parameters_are_counted(tmp_path: Path) -> None:
    shared, free = pair(tmp_path)
    counts = [sum(value.numel() for value in model.parameters()) for model in (shared, free)]
    layer = sum(value.numel() for value in shared.stack.blocks[0].parameters())
    assert counts[1] == counts[0] + (LAYERS - 1) * layer


def test_both_words_mean_it(tmp_path: Path) -> None:
    _, free = pair(tmp_path)
    again = load(tmp_path, share_layers=False, heads=free.heads)
    assert again.config.family == "albert" and len(again.stack.blocks) == LAYERS
    assert all(torch.equal(*both) for both in zip(outputs(again), outputs(free), strict=True))


def test_our_own_format_gives_every_layer_a_copy_too(tmp_path: Path) -> None:
    shared, free = pair(tmp_path / "published")
    save(shared, tmp_path / "own")
    again = load(tmp_path / "own", share_layers=False)
    assert all(torch.equal(value, free.state_dict()[name]) for name, value in again.state_dict().items())
    with torch.no_grad():
        again.stack.blocks[0].attention.query.weight.add_(1)
    assert not torch.equal(*(block.attention.query.weight for block in again.stack.blocks[:2]))
    other = load(tmp_path / "own", share_layers=False, attention="linear", strict=False)
    assert len(list(other.stack.blocks)) == LAYERS
    save(again, tmp_path / "free")
    with pytest.raises(UserError, match="weights and config disagree"):
        load(tmp_path / "free", share_layers=True)


def test_both_stacks_of_an_encoder_decoder_are_set_free(tmp_path: Path) -> None:
    torch.manual_seed(2)
    sizes = {"vocab_size": 23, "hidden_size": 16, "layers": 3, "attention_heads": 2, "intermediate_size": 24}
    config = ModelConfig(
        **sizes, max_positions=40, decoder_layers=2, share_layers=True, initial_deviation=0.3
    )
    shared = EncoderDecoder(config).initialise().eval()
    save(shared, tmp_path)
    free = load(tmp_path, share_layers=False)
    assert (len(free.encoder.blocks), len(free.decoder.blocks)) == (3, 2)
    ids = torch.randint(1, config.vocab_size, (2, 7))
    sequences = [model(ids, decoder_input_ids=ids).sequence for model in (free, shared)]
    assert torch.equal(*sequences)
    with torch.no_grad():
        free.decoder.blocks[0].attention.query.weight.add_(1)
    assert not torch.equal(*(block.attention.query.weight for block in free.decoder.blocks))


def test_free_layers_are_kept(tmp_path: Path) -> None:
    """Our own format has room for them."""
    _, free = pair(tmp_path / "first")
    with torch.no_grad():
        free.stack.blocks[1].attention.query.weight.add_(1)
    save(free, tmp_path / "second")
    again = load(tmp_path / "second")
    assert all(torch.equal(value, free.state_dict()[name]) for name, value in again.state_dict().items())
    for both in zip(outputs(again), outputs(free), strict=True):
        torch.testing.assert_close(*both, rtol=1e-5, atol=1e-6)


def test_the_golden_checkpoint_set_free() -> None:
    """albert_unshared's file gives the outputs of an ALBERT, as every one-layer file must."""
    case = Case("albert_unshared")
    ids = case.tensors()["input_ids"].long()
    segments = case.tensors()["segment_ids"].long()
    free, shared = case.load(), load(case.folder, family="albert", heads=case.heads)
    torch.testing.assert_close(free(ids, segments).pooled, shared(ids, segments).pooled, rtol=0, atol=1e-6)
