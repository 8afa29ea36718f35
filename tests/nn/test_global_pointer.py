"""GlobalPointer, both kinds, against the formula for one pair at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import BASE, rotary_table, rotate
from hanformer.nn.layers.global_pointer import (
    EfficientGlobalPointer,
    GlobalPointer,
    Span,
    find_spans,
    span_ids,
)
from hanformer.train.losses.zlpr import zlpr, zlpr_sparse
from tests.harness import EXACT

KINDS, SIZE, HEAD = 3, 5, 4
BOTH = (GlobalPointer, EfficientGlobalPointer)
RAGGED = Layout.of((3, 0, 1, 4))


def turned(vector: Tensor, position: int, rotary: float | None) -> Tensor:
    if rotary is None:
        return vector
    table = rotary_table(torch.tensor([position]), len(vector), rotary, torch.float64)
    return rotate(vector[None, None], table)[0, 0]


def naive_full(layer: GlobalPointer, row: Tensor, kind: int, i: int, j: int) -> float:
    projected = layer.projection(row)
    begin = kind * 2 * HEAD
    query = turned(projected[i, begin : begin + HEAD], i, layer.rotary)
    key = turned(projected[j, begin + HEAD : begin + 2 * HEAD], j, layer.rotary)
    return float(query @ key) / math.sqrt(HEAD)


def naive_efficient(layer: EfficientGlobalPointer, row: Tensor, kind: int, i: int, j: int) -> float:
    projected = layer.projection(row)
    query, key = turned(projected[i, 0::2], i, layer.rotary), turned(projected[j, 1::2], j, layer.rotary)
    biases = layer.bias(projected) / 2
    return float(query @ key) / math.sqrt(HEAD) + float(biases[j, 2 * kind] + biases[i, 2 * kind + 1])


@pytest.mark.parametrize("triangle", [True, False])
@pytest.mark.parametrize("rotary", [BASE, 100.0, None])
@pytest.mark.parametrize(("kind_of", "naive"), [*zip(BOTH, (naive_full, naive_efficient), strict=True)])
def test_one_pair_at_a_time(kind_of: type, naive: object, rotary: float | None, triangle: bool) -> None:
    layer = kind_of(SIZE, KINDS, HEAD, rotary=rotary, triangle=triangle).double()
    hidden = torch.randn(RAGGED.total, SIZE, dtype=torch.float64)
    scores = layer(hidden, RAGGED)
    assert scores.shape == (4, KINDS, 4, 4)
    expected = torch.full_like(scores, -math.inf)
    with torch.no_grad():
        for b, row in enumerate(hidden.split(list(RAGGED.lengths))):
            for kind in range(KINDS):
                for i in range(len(row)):
                    for j in range(i if triangle else 0, len(row)):
                        expected[b, kind, i, j] = naive(layer, row, kind, i, j)
    torch.testing.assert_close(scores, expected, **EXACT)


@pytest.mark.parametrize("kind_of", BOTH)
def test_rotary_scores_know_distances_alone(kind_of: type) -> None:
    layer = kind_of(SIZE, KINDS, HEAD).double()
    hidden = torch.randn(6, SIZE, dtype=torch.float64)
    shifted = Layout.of((6,), positions=torch.arange(6) + 1000)
    torch.testing.assert_close(layer(hidden, Layout.of((6,))), layer(hidden, shifted), rtol=1e-8, atol=1e-9)
    still = kind_of(SIZE, KINDS, HEAD, rotary=None).double()
    assert torch.equal(still(hidden, Layout.of((6,))), still(hidden, shifted))


@pytest.mark.parametrize("kind_of", BOTH)
def test_gradients_and_precision(kind_of: type) -> None:
    layer = kind_of(SIZE, KINDS, HEAD).double()
    hidden = torch.randn(RAGGED.total, SIZE, dtype=torch.float64, requires_grad=True)
    spans = [[Span(0, 0, 2), Span(2, 1, 1)], [], [Span(1, 0, 0)], []]

    def loss(states: Tensor) -> Tensor:
        scores = layer(states, RAGGED)
        return zlpr_sparse(scores.flatten(2), span_ids(spans, scores))

    assert torch.autograd.gradcheck(loss, hidden)
    loss(hidden).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    narrow = layer.to(torch.bfloat16)(hidden.detach().bfloat16(), RAGGED)
    assert narrow.dtype == torch.bfloat16 and narrow[3].triu().isfinite().all()


@pytest.mark.parametrize("kind_of", BOTH)
def test_no_rows_and_empty_rows(kind_of: type) -> None:
    layer = kind_of(SIZE, KINDS, HEAD)
    for lengths in ((), (0, 0)):
        scores = layer(torch.zeros(0, SIZE), Layout.of(lengths))
        assert scores.shape == (len(lengths), KINDS, 0, 0)
        ids = span_ids([[] for _ in lengths], scores)
        assert zlpr_sparse(scores.flatten(2), ids).sum() == 0
    assert layer(torch.zeros(1, SIZE), Layout.of((0, 1))).shape == (2, KINDS, 1, 1)


def test_padding_costs_nothing() -> None:
    """A short row beside a long one has the loss that it has alone."""
    layer, hidden = GlobalPointer(SIZE, KINDS, HEAD).double(), torch.randn(8, SIZE).double()
    spans = [[Span(1, 0, 1)], [Span(0, 2, 5)]]

    def losses(states: Tensor, layout: Layout, named: list[list[Span]]) -> Tensor:
        scores = layer(states, layout)
        return zlpr_sparse(scores.flatten(2), span_ids(named, scores))

    together = losses(hidden, Layout.of((2, 6)), spans)
    alone = losses(hidden[:2], Layout.of((2,)), spans[:1])
    torch.testing.assert_close(together[:1], alone, **EXACT)


def test_spans_and_back() -> None:
    scores = torch.full((2, KINDS, 4, 4), -1.0)
    spans = [[Span(0, 1, 3), Span(0, 2, 2), Span(2, 0, 0)], []]
    for row, named in enumerate(spans):
        for span in named:
            scores[row, span.kind, span.start, span.end] = 0.5
    assert find_spans(scores) == spans
    assert find_spans(scores, 0.5) == [[], []]
    ids = span_ids(spans, scores)
    assert ids.tolist() == [[[7, 10], [-1, -1], [0, -1]], [[-1, -1]] * 3]
    torch.testing.assert_close(
        zlpr_sparse(scores.flatten(2), ids), zlpr(scores.flatten(2), (scores > 0).flatten(2))
    )


def test_it_learns_nested_spans() -> None:
    torch.manual_seed(0)
    layer = EfficientGlobalPointer(16, 2, 8)
    hidden, layout = torch.randn(9, 16), Layout.of((5, 4))
    spans = [[Span(0, 0, 3), Span(0, 1, 2), Span(1, 1, 2)], [Span(1, 3, 3)]]
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(150):
        scores = layer(hidden, layout)
        optimizer.zero_grad()
        zlpr_sparse(scores.flatten(2), span_ids(spans, scores)).sum().backward()
        optimizer.step()
    assert find_spans(layer(hidden, layout)) == spans


def test_what_does_not_fit() -> None:
    for kind_of in BOTH:
        with pytest.raises(UserError, match="even head size, got 3"):
            kind_of(SIZE, KINDS, 3)
        kind_of(SIZE, KINDS, 3, rotary=None)
    scores = torch.zeros(1, KINDS, 4, 4)
    with pytest.raises(UserError, match="spans of 1 rows, got those of 2"):
        span_ids([[], []], scores)
    for span in (Span(3, 0, 0), Span(0, 0, 4), Span(0, -1, 0)):
        with pytest.raises(UserError, match="row 0: expected a kind below 3 and tokens below 4"):
            span_ids([[span]], scores)
