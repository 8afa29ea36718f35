"""What every model must satisfy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models import Transformer, load, save
from hanformer.nn.functional.attend import differentiable_twice
from hanformer.nn.functional.packing import Layout
from tests.harness.decoding import check_cached_decoding
from tests.harness.material import (
    CLOSE,
    EXACT,
    Rows,
    assert_all_close,
    flatten_rows,
    random_model,
    random_rows,
    run_packed,
    run_row_by_row,
)
from tests.harness.rules import naive_visible, rows_of


def check_model(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
    """Every check below that the application allows. The config should be tiny, and hold 24 positions."""
    config = config.changed({"dropout": 0.0, "attention_dropout": 0.0})
    check_packing(config, heads)
    check_padding(config, heads)
    check_empty_rows(config, heads)
    check_who_sees_whom(config)
    check_gradients(config, heads)
    check_half_precision(config, heads)
    check_save_and_load(config, heads)
    if config.application != "encoder":
        check_cached_decoding(config)


def check_packing(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
    """Packed rows of unequal length equal each row alone, and neighbours do not matter."""
    for dtype, tolerance in ((torch.float64, EXACT), (torch.float32, CLOSE)):
        model = random_model(config, heads, dtype)
        rows = random_rows(config, (5, 1, 7, 3, 3, 8, 1))
        expected = run_row_by_row(model, rows)
        assert_all_close(run_packed(model, rows), expected, **tolerance)


def check_padding(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
    """Padding on the left, on the right and in the middle changes nothing, and comes back as zeros."""
    model = random_model(config, heads)
    rows = random_rows(config, (5, 1, 7, 3))
    expected = run_row_by_row(model, rows)
    pooled = [model(row.packed[None], row.layout.segments[None]).pooled for row in rows]
    for real in _places(rows, 9):
        segments = _spread(rows.segments, real)
        runs = [model(_spread(rows.ids, real, 7), segments, attention_mask=real.long())]
        if config.pad_id is not None:
            runs.append(model(_spread(rows.ids, real, config.pad_id), segments))
        for output in runs:
            found = [value for value in (output.sequence, output.lm_logits) if value is not None]
            assert_all_close([value[real] for value in found], expected)
            assert all(not value[~real].any() for value in found), "padding must come back as zeros"
            if "pool" in heads:
                torch.testing.assert_close(output.pooled, torch.cat(pooled), **EXACT)


def _places(rows: Rows, width: int) -> Iterator[Tensor]:
    """Where the real tokens stand in [B, width]: right padding, left padding, padding in the middle, scattered."""
    lengths = [len(row) for row in rows.ids]
    generator = torch.Generator().manual_seed(3)
    right = torch.tensor([[place < length for place in range(width)] for length in lengths])
    yield right
    yield right.flip(1)
    yield torch.stack([row.roll(-(length // 2)) for row, length in zip(right, lengths, strict=True)])
    yield torch.stack([row[torch.randperm(width, generator=generator)] for row in right])


def _spread(rows: Sequence[Sequence[int]], real: Tensor, filler: int = 0) -> Tensor:
    padded = torch.full(real.shape, filler, dtype=torch.int64)
    padded[real] = flatten_rows(rows)
    return padded


def check_empty_rows(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
    """Rows without tokens, and a batch without rows, are allowed (but they cannot be pooled)."""
    model = random_model(config, heads)
    rows = random_rows(config, (0, 3, 0, 1, 0))
    expected = run_packed(model, Rows([rows.ids[1], rows.ids[3]], [rows.segments[1], rows.segments[3]]))
    assert_all_close(run_packed(model, rows), expected)
    padded, real = torch.full((2, 4), 5), torch.tensor([[False] * 4, [True] * 4])
    if "pool" in heads:
        with pytest.raises(UserError, match="empty"):
            model(padded, attention_mask=real)
    else:
        assert not model(padded, attention_mask=real).sequence[0].any()
    nothing = model(torch.zeros(0, 4, dtype=torch.int64))
    assert nothing.sequence.shape == (0, 4, config.hidden_size)


def check_who_sees_whom(config: ModelConfig, lengths: Sequence[int] = (8, 1, 6, 4)) -> None:
    """The Jacobian of the body has exactly the sparsity that its rule gives after that many layers."""
    model = random_model(config, ())
    layout = random_rows(config, lengths).layout
    direct = torch.block_diag(*(naive_visible(model.rule, row) for row in rows_of(layout))).bool()
    expected = torch.eye(layout.total, dtype=torch.bool)
    for _ in range(config.layers):
        expected = (expected.float() @ (direct | torch.eye(layout.total, dtype=torch.bool)).float()) > 0
    assert torch.equal(jacobian_pattern(model, layout), expected)


def jacobian_pattern(model: Transformer, layout: Layout) -> Tensor:
    """Bool [N, N]: whether output i depends on input j at all."""
    embedded = torch.randn(layout.total, model.config.hidden_size, dtype=torch.float64, requires_grad=True)
    # A random projection of each output, because the channels of a normed output sum to a constant.
    outputs = (model.body(embedded, layout) * torch.randn_like(embedded)).sum(-1)
    gradients = [torch.autograd.grad(output, embedded, retain_graph=True)[0] for output in outputs]
    return torch.stack(gradients).ne(0).any(-1)


def check_gradients(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
    """Gradients of inputs and parameters equal finite differences; so do second ones where asked for."""
    model = random_model(config.changed({"layers": 1}), heads)
    rows = random_rows(config, (4, 1, 2))
    named = dict(model.named_parameters())
    sizes = [parameter.numel() for parameter in named.values()]
    flat = parameters_to_vector(named.values()).detach().requires_grad_()
    padded = torch.nn.utils.rnn.pad_sequence([flatten_rows([row]) for row in rows.ids], batch_first=True)
    segments = torch.nn.utils.rnn.pad_sequence(
        [flatten_rows([row]) for row in rows.segments], batch_first=True
    )
    real = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row)) for row in rows.ids], batch_first=True)

    def whole(flat: Tensor) -> tuple[Tensor, ...]:
        parts = zip(named.items(), flat.split(sizes), strict=True)
        parameters = {name: part.view_as(value) for (name, value), part in parts}
        output = functional_call(model, parameters, (padded, segments), {"attention_mask": real})
        return tuple(x for x in (output.sequence, output.pooled, output.lm_logits) if x is not None)

    body = partial(model.body, layout=rows.layout)
    embedded = torch.randn(rows.layout.total, config.hidden_size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(whole, flat, fast_mode=True)
    assert torch.autograd.gradcheck(body, embedded, fast_mode=True)
    with differentiable_twice():
        assert torch.autograd.gradgradcheck(body, embedded, fast_mode=True)


def check_half_precision(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
    """bf16 weights run and stay near fp32; a training step under autocast gives finite gradients."""
    model = random_model(config, heads, torch.float32)
    rows = random_rows(config, (5, 1, 7, 3))
    expected = run_packed(model, rows)
    half = random_model(config, heads, torch.bfloat16)
    for found, exact in zip(run_packed(half, rows), expected, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.float() - exact).norm() < 0.05 * exact.norm()
    with torch.autocast("cpu", torch.bfloat16):
        run_packed(model.train(), rows)[-1].float().square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    if config.application != "encoder" and "lm" in heads:
        logits, state = half.prompt(rows.ids)
        assert (
            logits.isfinite().all() and half.step(torch.ones(4, 2, dtype=torch.int64), state).isfinite().all()
        )


def check_save_and_load(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
    """A saved model comes back with the same config, heads and bits, in its own dtype or the one asked for."""
    model = random_model(config, heads, torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        loaded, half = load(folder), load(folder, dtype=torch.bfloat16)
    assert loaded.config == config and loaded.heads == model.heads and not loaded.training
    expected, found = model.state_dict(), loaded.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    rows = random_rows(config, (5, 1))
    assert all(map(torch.equal, run_packed(loaded, rows), run_packed(model, rows)))
