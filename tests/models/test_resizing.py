"""Resized weights: the definition, what it keeps, and whole models that go on computing what they did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.resizing import orthogonally_resize, resizer
from tests.harness import random_model, tiny_config
from tests.models.test_loading import LLAMA

BLOCKS = st.tuples(st.integers(1, 4), st.integers(1, 14))


def by_definition(tensor: Tensor, shape: Sequence[int], window: int = 2) -> Tensor:
    """Entry by entry: place i' of a grown axis comes from block i' // (window * times), offset i' % window."""
    places = []
    for stored, length in zip(tensor.shape, shape, strict=True):
        times = max(math.ceil(length / stored), 1)
        if length > stored:
            places.append([i // (window * times) * window + i % window for i in range(length)])
        else:
            places.append(list(range(length)))
    picked = tensor.numpy()[np.ix_(*places)]
    return torch.from_numpy(picked * (np.linalg.norm(tensor.numpy()) / np.linalg.norm(picked)))


@given(st.lists(BLOCKS, min_size=1, max_size=3), st.sampled_from([1, 2, 3]), st.integers(0, 9))
def test_resizing_is_what_its_definition_says(sizes: list[tuple[int, int]], window: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    stored, shape = [window * blocks for blocks, _ in sizes], [length for _, length in sizes]
    tensor = torch.randn(stored, generator=generator, dtype=torch.float64)
    found = orthogonally_resize(tensor, shape, window)
    assert list(found.shape) == shape and found.is_contiguous()
    torch.testing.assert_close(found, by_definition(tensor, shape, window), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.norm(), tensor.norm(), rtol=1e-12, atol=0.0)


def test_blocks_are_repeated_and_not_entries() -> None:
    found = orthogonally_resize(torch.tensor([1.0, 2.0, 3.0, 4.0]), [8])
    expected = torch.tensor([1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]) / math.sqrt(2)
    torch.testing.assert_close(found, expected)


def orthogonal(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_more_rows_leave_columns_orthonormal(times: int) -> None:
    found = orthogonally_resize(orthogonal(6), [6 * times, 6])
    torch.testing.assert_close(found.T @ found, torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("times", [2, 3])
def test_a_grown_matrix_acts_on_repeated_vectors_as_before(times: int) -> None:
    matrix, vector = orthogonal(6), torch.randn(6, dtype=torch.float64)
    grown = orthogonally_resize(matrix, [6 * times, 6 * times])
    torch.testing.assert_close(grown @ repeated(vector, times), repeated(matrix @ vector, times))


def repeated(values: Tensor, times: int) -> Tensor:
    """Each two neighbours of the last axis come `times` times in a row."""
    return values.unflatten(-1, (-1, 2)).repeat_interleave(times, -2).flatten(-2)


def test_resizing_keeps_what_fits_and_what_is_zero() -> None:
    tensor = torch.randn(4, 6)
    assert torch.equal(orthogonally_resize(tensor, [4, 6]), tensor)
    assert torch.equal(orthogonally_resize(torch.zeros(4), [7]), torch.zeros(7))
    assert orthogonally_resize(tensor.bfloat16(), [8, 3]).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("stored", "shape", "window", "said"),
    [
        ((4, 4), (4,), 2, "as many lengths"),
        ((4,), (-1,), 2, "none below 0"),
        ((4,), (8,), 0, "a window of 1 or more"),
        ((5,), (6,), 2, "5 is no multiple of that"),
        ((0,), (2,), 2, "0 is no multiple"),
    ],
)
def test_what_cannot_be_resized(stored: list[int], shape: list[int], window: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        orthogonally_resize(torch.zeros(stored), shape, window)


def test_the_scales_of_each_part() -> None:
    """Beyond the norm: fourth root for query and key, roots for the two parts of the feed-forward layer."""
    gelu, relu = (resizer(tiny_config(activation=word)) for word in ("gelu", "relu"))
    unscaled = resizer(tiny_config(scale_attention=False))
    block, small, large = "stack.blocks.0.", (4, 6), torch.Size((8, 18))
    tensor = torch.randn(small)
    for fit, name, scale in (
        (gelu, "attention.query.weight", 2**0.25),
        (gelu, "attention.key.weight", 2**0.25),
        (unscaled, "attention.key.weight", 1.0),
        (gelu, "attention.value.weight", 1.0),
        (gelu, "attention.output.weight", 1.0),
        (gelu, "feedforward.expand.weight", 2**0.5),
        (gelu, "feedforward.gated.weight", 2**0.5),
        (relu, "feedforward.expand.weight", 1.0),
        (gelu, "feedforward.contract.weight", 3**-0.5),
        (relu, "feedforward.contract.weight", 3**-0.5),
    ):
        found = fit(block + name, tensor, large)
        torch.testing.assert_close(found, orthogonally_resize(tensor, large) * scale)
    bias = torch.randn(4)
    for name, scale in (
        ("attention.query", 2**0.25),
        ("feedforward.expand", 2**0.5),
        ("attention_norm", 1.0),
    ):
        found = gelu(f"{block}{name}.bias", bias, torch.Size([8]))
        torch.testing.assert_close(found, orthogonally_resize(bias, [8]) * scale)


WIDER = {"hidden_size": 32, "intermediate_size": 48}


@pytest.mark.parametrize(
    ("changes", "times"),
    [
        (WIDER, 2),
        ({"hidden_size": 48, "intermediate_size": 24}, 3),
        ({"intermediate_size": 72}, 1),
        ({**WIDER, "attention_heads": 4}, 2),
    ],
)
def test_a_wider_model_computes_the_same(tmp_path: Path, changes: dict[str, int], times: int) -> None:
    """Hidden states of k times the width are those of the published model, repeated and divided by √k.

    With more heads instead of wider ones, logits of attention are √k times too small: the same only where each
    token sees one alone.
    """
    model = random_model(tiny_config(), ())
    save(model, tmp_path)
    wider = load(tmp_path, changes=changes, resize=True)
    assert wider.config.hidden_size == 16 * times
    alone = "attention_heads" in changes
    ids = torch.tensor([[5]] if alone else [[5, 3, 8, 8, 2], [1, 4, 9, 0, 0]])
    expected = repeated(model(ids).sequence, times) / math.sqrt(times)
    torch.testing.assert_close(wider(ids).sequence, expected, rtol=1e-8, atol=1e-8)


def test_a_narrower_model_starts_and_learns(tmp_path: Path) -> None:
    model = random_model(tiny_config(), ("lm", "pool"), torch.float32)
    save(model, tmp_path)
    smaller = load(
        tmp_path,
        changes={"hidden_size": 8, "intermediate_size": 10, "max_positions": 20, "vocab_size": 11},
        resize=True,
    )
    before, after = model.state_dict(), smaller.state_dict()
    assert list(before) == list(after)
    kept = after["stack.blocks.1.attention.value.weight"]
    cut = before["stack.blocks.1.attention.value.weight"][:8, :8]
    torch.testing.assert_close(
        kept, cut * (before["stack.blocks.1.attention.value.weight"].norm() / cut.norm())
    )
    smaller(torch.tensor([[3, 1, 4]])).lm_logits.logsumexp(-1).sum().backward()
    assert all(
        parameter.grad is None or parameter.grad.isfinite().all() for parameter in smaller.parameters()
    )


def test_without_resizing_shapes_must_fit(tmp_path: Path) -> None:
    save(random_model(tiny_config(), dtype=torch.float32), tmp_path)
    with pytest.raises(UserError, match=r"wrong shape .* \[16\] instead of \[32\]"):
        load(tmp_path, changes=WIDER)


def test_layers_that_are_not_there_stay_missing(tmp_path: Path) -> None:
    save(random_model(tiny_config(), dtype=torch.float32), tmp_path)
    with pytest.raises(UserError, match=r"missing .*blocks\.2\."):
        load(tmp_path, changes={**WIDER, "layers": 3}, resize=True)


def test_a_vocabulary_that_does_not_divide(tmp_path: Path) -> None:
    save(random_model(tiny_config(), dtype=torch.float32), tmp_path)
    with pytest.raises(UserError, match=r"23 is no multiple .* compound_tokens"):
        load(tmp_path, changes={"vocab_size": 30}, resize=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 32, "attention_heads": 8, "key_value_heads": 4},
        {"hidden_size": 8, "attention_heads": 2, "key_value_heads": 1, "intermediate_size": 12},
        {"attention_head_size": 8},
    ],
)
def test_every_format_is_resized_alike(tmp_path: Path, changes: dict[str, int]) -> None:
    """transformers keeps the channels of rotary heads in another order: they are put right before resizing."""
    model = random_model(tiny_config(**LLAMA), dtype=torch.float32)
    save(model, tmp_path / "own")
    save(model, tmp_path / "theirs", format="transformers")
    ours, theirs = (load(tmp_path / name, changes=changes, resize=True) for name in ("own", "theirs"))
    found = theirs.state_dict()
    assert ours.config.attention_heads == changes.get("attention_heads", 4)
    assert all(torch.equal(value, found[name]) for name, value in ours.state_dict().items())
