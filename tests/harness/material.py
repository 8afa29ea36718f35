"""What the checks work on: tiny configs, random models and rows, and how to compare tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.models import Transformer, build
from hanformer.nn.functional.packing import Layout

EXACT = {"rtol": 1e-9, "atol": 1e-10}  # float64: the same numbers in another order of summation
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32


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
        return Layout.of([len(row) for row in self.ids], flatten_rows(self.segments))

    @property
    def packed(self) -> Tensor:
        """The packed ids."""
        return flatten_rows(self.ids)


def flatten_rows(rows: Sequence[Sequence[int]]) -> Tensor:
    """All values, row after row: int64 [N]."""
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
