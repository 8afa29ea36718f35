"""The shared harness: what every model and every visibility rule must satisfy.

`check_model(config, heads)` builds a tiny model with random weights and runs every check that its application
allows; `check_rule(rule)` does the same for a visibility rule. Each check is also a function of its own, so that
a failure names what broke. The oracles are naive: one row at a time, no padding, no cache, no plan.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models import Transformer, build, load, save
from hanformer.nn.functional.attend import attend, attend_explicit, differentiable_twice
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Rule, Tokens, Visibility

EXACT = {"rtol": 1e-9, "atol": 1e-10}  # float64: the same numbers in another order of summation
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32

# ---------------------------------------------------------------------------------------------- material


def tiny_config(**changes: object) -> ModelConfig:
    """A config of two small layers, without dropout; any field can be changed."""
    base = ModelConfig(
        vocab_size=23,
        hidden_size=16,
        layers=2,
        attention_heads=2,
        intermediate_size=24,
        max_positions=40,
        dropout=0.0,
        attention_dropout=0.0,
    )
    return base.changed(changes)


def random_model(
    config: ModelConfig, heads: Sequence[str] = ("lm",), dtype: torch.dtype = torch.float64, seed: int = 1
) -> Transformer:
    """A model whose every parameter is random, gains and biases too, so that a swapped one shows."""
    torch.manual_seed(seed)
    model = build(config, heads)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.to(dtype).eval()


@dataclass(frozen=True)
class Rows:
    """Token ids and segments of some rows, as plain lists."""

    ids: list[list[int]]
    segments: list[list[int]]

    def __iter__(self) -> Iterator[Rows]:
        """Each row alone."""
        return (Rows([ids], [segments]) for ids, segments in zip(self.ids, self.segments, strict=True))

    @property
    def layout(self) -> Layout:
        """The packed layout of these rows."""
        return Layout.of([len(row) for row in self.ids], _flat(self.segments))

    @property
    def packed(self) -> Tensor:
        """The packed ids."""
        return _flat(self.ids)


def _flat(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=torch.int64)


def segment_pattern(length: int, row: int = 0) -> list[int]:
    """Segments of a row: in turn 0 1 1 0 0 1 1 0 (which returns to 0), source then target, all source."""
    if row % 3 == 0:
        return [(place + 1) // 2 % 2 for place in range(length)]
    return [int(row % 3 == 1 and place >= length // 2) for place in range(length)]


def random_rows(config: ModelConfig, lengths: Sequence[int], seed: int = 2) -> Rows:
    """Rows of random real tokens, never padding, with segments as far as the config has them."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.tensor([token for token in range(config.vocab_size) if token != config.pad_id])
    ids = [real[torch.randint(len(real), (length,), generator=generator)].tolist() for length in lengths]
    segments = [segment_pattern(length, row) for row, length in enumerate(lengths)]
    if config.segment_vocab_size == 1:
        segments = [[0] * length for length in lengths]
    return Rows(ids, segments)


def run_packed(model: Transformer, rows: Rows) -> tuple[Tensor, ...]:
    """Hidden states of the packed rows, and logits where there is a vocabulary head."""
    hidden = model.body(model.embed(rows.packed, rows.layout), rows.layout)
    return (hidden, model.lm_logits(hidden)) if "lm" in model.heads else (hidden,)


def run_row_by_row(model: Transformer, rows: Rows) -> tuple[Tensor, ...]:
    """The oracle of `run_packed`: every row alone."""
    return tuple(torch.cat(parts) for parts in zip(*(run_packed(model, row) for row in rows), strict=True))


def assert_all_close(actual: Sequence[Tensor], expected: Sequence[Tensor], **tolerance: float) -> None:
    assert len(actual) == len(expected)
    for left, right in zip(actual, expected, strict=True):
        torch.testing.assert_close(left, right, **(tolerance or EXACT))


# ------------------------------------------------------------------------------------------------ models


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
    padded[real] = _flat(rows)
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
    padded = torch.nn.utils.rnn.pad_sequence([_flat([row]) for row in rows.ids], batch_first=True)
    segments = torch.nn.utils.rnn.pad_sequence([_flat([row]) for row in rows.segments], batch_first=True)
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


# ---------------------------------------------------------------------------------------------- decoding


class UncachedState:
    """Decoding without a cache: rows are plain lists, read from their beginning at every step."""

    def __init__(self, model: Transformer, prompts: Rows) -> None:
        self.model, self.rows, self.length = model, prompts, 0
        self.segment = int(model.config.application == "unilm")

    def logits(self, count: int) -> Tensor:
        """[R, count, V]: logits after each of the last `count` tokens of every row."""
        logits = run_packed(self.model, self.rows)[1].split([len(row) for row in self.rows.ids])
        return torch.stack([row[-count:] for row in logits])

    def step(self, tokens: Tensor) -> Tensor:
        count = tokens.shape[1]
        ids = [[*row, *new] for row, new in zip(self.rows.ids, tokens.tolist(), strict=True)]
        self.rows = Rows(ids, [[*row, *[self.segment] * count] for row in self.rows.segments])
        self.length += count
        return self.logits(count)

    def select(self, rows: Sequence[int]) -> None:
        self.rows = Rows([self.rows.ids[row] for row in rows], [self.rows.segments[row] for row in rows])

    def truncate(self, length: int) -> None:
        cut = self.length - length
        kept = ([row[: len(row) - cut] for row in rows] for rows in (self.rows.ids, self.rows.segments))
        self.rows, self.length = Rows(*kept), length


#: What a decoding loop may do, in an order that meets every layout of prompts and rows.
DECODING: tuple[tuple[str, object], ...] = (
    ("step", 1),
    ("step", 3),
    ("select", [0, 0, 1, 1, 2, 2]),  # beams: rows of one prompt beside each other
    ("step", 2),
    ("select", [1, 0, 3, 3, 5, 4]),  # reordered within each prompt
    ("step", 1),
    ("truncate", 5),
    ("step", 1),
    ("select", [5, 0, 2]),  # prompts out of order
    ("step", 2),
    ("select", [2, 0, 0, 1, 2]),  # unequal numbers of rows
    ("step", 1),
    ("select", [1, 2]),  # prompts dropped, one left with two rows
    ("step", 1),
    ("truncate", 0),
    ("step", 2),
    ("select", [1]),
    ("step", 1),
    ("select", [0, 0, 0]),
    ("step", 1),
)


def check_cached_decoding(config: ModelConfig) -> None:
    """prompt and step give the logits of reading everything anew, whatever was selected or truncated."""
    model = random_model(config)
    for lengths, actions in (((3, 1, 6), DECODING), ((4, 4, 4), DECODING[:4])):
        prompts = random_rows(config, lengths)
        uncached = UncachedState(model, prompts)
        logits, state = model.prompt(prompts.ids, prompts.segments)
        torch.testing.assert_close(logits, uncached.logits(1)[:, 0], **EXACT)
        for action, argument in actions:
            if action == "step":
                tokens = torch.randint(config.vocab_size, (len(uncached.rows.ids), argument))
                torch.testing.assert_close(model.step(tokens, state), uncached.step(tokens), **EXACT)
            elif action == "select":
                state.select(torch.tensor(argument))
                uncached.select(argument)
            else:
                state.truncate(argument)
                uncached.truncate(argument)
            assert state.length == uncached.length


# ------------------------------------------------------------------------------------------------- rules

LAYOUTS: tuple[tuple[int, ...], ...] = (
    (),
    (1,),
    (6,),
    (3, 3, 3),
    (1, 1, 1),
    (5, 1, 3, 8, 8, 2),
    (0, 4, 0, 1),
    (0, 0),
    (2, 7, 0, 0, 9, 1, 9),
)
CROSS_LAYOUTS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((3, 1, 2), (2, 5, 4)),
    ((4, 4), (4, 4)),
    ((1, 1), (6, 6)),
    ((5,), (1,)),
    ((0, 3, 2, 2), (4, 0, 1, 1)),
    ((3, 3), (0, 0)),
)


def check_rule(rule: Rule) -> None:
    """`bind` and its plan equal the definition, on ragged, length-1 and empty rows, alone and across layouts."""
    for lengths in LAYOUTS:
        layout = patterned_layout(lengths)
        check_visibility(rule.bind(layout), oracle=[naive_visible(rule, row) for row in rows_of(layout)])
    for query_lengths, key_lengths in CROSS_LAYOUTS:
        query, key = patterned_layout(query_lengths), patterned_layout(key_lengths, 1)
        pairs = zip(rows_of(query), rows_of(key), strict=True)
        check_visibility(rule.bind(query, key), oracle=[naive_visible(rule, *pair) for pair in pairs])
    check_claims(rule)


def patterned_layout(lengths: Sequence[int], shift: int = 0) -> Layout:
    """A layout whose segments follow `segment_pattern`."""
    return Layout.of(lengths, _flat([segment_pattern(n, row + shift) for row, n in enumerate(lengths)]))


def rows_of(layout: Layout) -> list[Tensor]:
    """The segments of each row."""
    return list(layout.segments.split(list(layout.lengths)))


def naive_visible(rule: Rule, query_segments: Tensor, key_segments: Tensor | None = None) -> Tensor:
    """The definition: bool [Q, K] of one row, asked pair by pair."""
    query, key = (
        Tokens(torch.arange(len(segments)), segments, segments.cumsum(0))
        for segments in (query_segments, query_segments if key_segments is None else key_segments)
    )
    visible = torch.zeros(len(query.index), len(key.index), dtype=torch.bool)
    for i in range(len(query.index)):
        for j in range(len(key.index)):
            visible[i, j] = rule.allows(_token(query, i), _token(key, j))
    return visible


def _token(tokens: Tokens, place: int) -> Tokens:
    return Tokens(tokens.index[place], tokens.segment[place], tokens.reach[place])


def check_visibility(visibility: Visibility, oracle: Sequence[Tensor]) -> None:
    """The dense form and attention (values and gradients) equal the pair-by-pair oracle of each row."""
    dense = visibility.dense()
    for row, expected in enumerate(oracle):
        cut = torch.zeros_like(dense[row])
        cut[: expected.shape[0], : expected.shape[1]] = expected
        assert torch.equal(dense[row], cut)
    for value_size in (4, 3):
        inputs = _attention_inputs(visibility, value_size)
        weights = torch.randn(visibility.query.total, 2, value_size, dtype=torch.float64)
        fast, naive = attend(*inputs, visibility, scale=0.4), naive_attend(*inputs, visibility, oracle, 0.4)
        torch.testing.assert_close(fast, naive, **EXACT)
        if fast.requires_grad:
            slopes = [torch.autograd.grad((out * weights).sum(), inputs) for out in (fast, naive)]
            assert_all_close(*slopes)


def _attention_inputs(visibility: Visibility, value_size: int) -> tuple[Tensor, Tensor, Tensor]:
    shapes = ((visibility.query.total, 4), (visibility.key.total, 4), (visibility.key.total, value_size))
    query, key, value = (
        torch.randn(tokens, 2, size, dtype=torch.float64, requires_grad=True) for tokens, size in shapes
    )
    return query, key, value


def naive_attend(
    query: Tensor, key: Tensor, value: Tensor, visibility: Visibility, oracle: Sequence[Tensor], scale: float
) -> Tensor:
    """Attention row by row from explicit logits; [Nq, H, D']."""
    per_row = zip(
        query.split(list(visibility.query.lengths)),
        key.split(list(visibility.key.lengths)),
        value.split(list(visibility.key.lengths)),
        oracle,
        strict=True,
    )
    parts = [query.new_zeros(0, query.shape[1], value.shape[2])]
    for q, k, v, visible in per_row:
        logits = torch.einsum("qhd,khd->hqk", q, k)[None] * scale
        parts.append(attend_explicit(logits, v.transpose(0, 1)[None], visible)[0][0].transpose(0, 1))
    return torch.cat(parts)


def check_claims(rule: Rule) -> None:
    """What a rule says of itself is true: `is_full`, `looks_left_only`, and that `allows` broadcasts."""
    layout = patterned_layout((7, 8, 5))
    for segments in rows_of(layout):
        visible = naive_visible(rule, segments)
        assert visible.all() or not rule.is_full
        assert not visible.triu(1).any() or not rule.looks_left_only
        tokens = Tokens(torch.arange(len(segments)), segments, segments.cumsum(0))
        assert torch.equal(rule.allows(tokens.as_queries(), tokens.as_keys()), visible)
        stacked = replace(
            tokens, **{name: getattr(tokens, name)[None] for name in ("index", "segment", "reach")}
        )
        assert rule.allows(stacked.as_queries(), stacked.as_keys()).shape == (1, *visible.shape)
