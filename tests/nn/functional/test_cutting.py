"""Plans of sparse rules: equal to dense attention, no pair lost or counted twice, no more work than promised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from hanformer.nn.functional import cutting
from hanformer.nn.functional.attend import attend, differentiable_twice
from hanformer.nn.functional.cutting import pairs
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.rules import Causal, Full, Rule, Tokens, UniLM
from hanformer.nn.functional.spans import Span
from hanformer.nn.functional.sparse_rules import Atrous, Local, Sparse
from hanformer.nn.functional.visibility import Visibility
from tests.harness import (
    check_rule,
    check_visibility,
    naive_attend,
    naive_visible,
    patterned_layout,
    rows_of,
)

PATTERNS = [
    Local(0),
    Local(2),
    Local(50),
    Atrous(1),
    Atrous(3),
    Atrous(50),
    Sparse(1),
    Sparse(3),
    Sparse(4, 1),
    Sparse(3, 0),
    Sparse(5, 7),
    Local(4) & Atrous(2),
    Local(1) | Atrous(2) | Atrous(3),
]
RULES = [
    *PATTERNS,
    *(pattern & Causal() for pattern in PATTERNS),
    *(UniLM() & pattern for pattern in PATTERNS),
    UniLM() | Local(1),
    Causal() | Local(2),
]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows are cut as long ones are."""
    monkeypatch.setattr(cutting, "SHORT", 0)
    monkeypatch.setattr(cutting, "BLOCKS", (2, 4))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rule_equals_its_definition(rule: Rule) -> None:
    check_rule(rule)
    layout = patterned_layout((9, 0, 21, 1, 13))
    oracle = [naive_visible(rule, row) for row in rows_of(layout)]
    check_visibility(rule.bind(layout), oracle)
    with differentiable_twice():
        check_visibility(rule.bind(layout), oracle)


@dataclass(frozen=True)
class Between(Rule):
    """Distances from low to high, wherever they lie."""

    low: int
    high: int
    by_distance = True

    @property
    def spans(self) -> tuple[Span, ...]:
        return (Span(self.low, self.high),)

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        away = key.index - query.index
        return (away >= self.low) & (away <= self.high)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "rule", [Between(2, 3), Between(-9, -7), Between(30, 33), Between(-33, -30)], ids=repr
)
def test_windows_away_from_the_token_itself(rule: Rule) -> None:
    layout = patterned_layout((9, 0, 21, 1, 13))
    check_visibility(rule.bind(layout), [naive_visible(rule, row) for row in rows_of(layout)])


def whole_rows(visibility: Visibility) -> Tensor:
    """How often each pair of tokens stands in the pieces: int [N, N], the computed mask written out."""
    layout = visibility.query
    counted = torch.zeros(layout.total, layout.total, dtype=torch.int64)
    names = torch.arange(1, layout.total + 1)
    for piece in visibility.pieces:
        for plan in piece.plans:
            query, key = (group.fill(piece.arrange(names)) for group in (plan.query, plan.key))
            shown = visibility.mask(plan)[:, 0] & (query[:, :, None] > 0) & (key[:, None, :] > 0)
            row, a, b = shown.nonzero(as_tuple=True)
            places = (query[row, a] - 1, key[row, b] - 1)
            counted.index_put_(places, torch.ones_like(row), accumulate=True)
    return counted


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 23), max_size=4), st.sampled_from(RULES))
def test_no_pair_is_lost_or_counted_twice(lengths: list[int], rule: Rule) -> None:
    layout = patterned_layout(lengths)
    oracle = torch.block_diag(
        torch.zeros(0, 0, dtype=torch.int64), *(naive_visible(rule, row).long() for row in rows_of(layout))
    )
    counted = whole_rows(rule.bind(layout))
    assert torch.equal(counted, oracle.to(counted.dtype))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rule", [Local(2), Atrous(3), Sparse(3), Sparse(3) & Causal(), UniLM() & Sparse(2)])
def test_gradients_are_zero_exactly_where_hidden(rule: Rule) -> None:
    layout = patterned_layout((11, 1, 6))
    visibility = rule.bind(layout)
    value = torch.randn(18, 1, 4, dtype=torch.float64, requires_grad=True)
    key = torch.randn(18, 1, 4, dtype=torch.float64, requires_grad=True)
    query = torch.randn(18, 1, 4, dtype=torch.float64)
    expected = torch.block_diag(*(naive_visible(rule, row) for row in rows_of(layout))).bool()
    mixed = attend(query, key, value, visibility, scale=0.5)
    for place in range(18):
        slopes = torch.autograd.grad(mixed[place].sum(), (key, value), retain_graph=True)
        assert torch.equal(slopes[1].ne(0).any(-1).squeeze(1), expected[place])
        # The key of a token that sees itself alone has no influence on the weights.
        assert not slopes[0].ne(0).any(-1).squeeze(1)[~expected[place]].any()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rule", [Local(2) & Causal(), Sparse(3), UniLM() & Sparse(3)])
def test_second_derivative(rule: Rule) -> None:
    visibility = rule.bind(patterned_layout((9, 1, 3)))
    inputs = [torch.randn(13, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *x: attend(*x, visibility, scale=0.7), inputs, fast_mode=True)
    with differentiable_twice():
        assert torch.autograd.gradgradcheck(
            lambda *x: attend(*x, visibility, scale=0.7), inputs, fast_mode=True
        )


@pytest.mark.parametrize("rule", [Local(9), Atrous(7), Sparse(7), Sparse(7, 20)], ids=repr)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [210, 211])
def test_equal_to_a_dense_mask_at_real_block_sizes(rule: Rule, causal: bool, length: int) -> None:
    joined = rule & Causal() if causal else rule
    layout = Layout.of((length, 30, 97))
    visibility = joined.bind(layout)
    assert visibility.pieces is not visibility.whole
    inputs = [torch.randn(layout.total, 2, 8, dtype=torch.float64) for _ in range(3)]
    mixed = attend(*inputs, visibility, scale=0.4)
    for row, mask in enumerate(visibility.dense()):
        own = slice(layout.offsets[row], layout.offsets[row + 1])
        count = layout.lengths[row]
        query, key, value = (tensor[own].transpose(0, 1)[None] for tensor in inputs)
        dense = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:count, :count], scale=0.4
        )
        torch.testing.assert_close(mixed[own], dense[0].transpose(0, 1), rtol=0, atol=1e-10)


def test_limits_need_no_mask_and_no_cutting() -> None:
    layout = Layout.of((200, 150))
    for rule in (Atrous(1), Sparse(1), Local(199), Local(10**9), Full()):
        assert rule.bind(layout).pieces is not None and len(rule.bind(layout).pieces) == 1
        assert [plan.causal for plan in (rule & Causal()).bind(layout).plans] == [True] * len(
            rule.bind(layout).plans
        )
    for rule in (Atrous(1), Sparse(1), Local(199)):
        plans = rule.bind(Layout.of((200, 200))).pieces[0].plans
        assert [plan.mask for plan in plans] == [None]


@pytest.mark.parametrize("length", [1000, 1024, 4099])
def test_work_is_what_the_pattern_costs(length: int) -> None:
    """Pairs computed, padding of blocks included, against n²/r and n·w."""
    layout = Layout.of((length,))
    assert pairs(Atrous(8).bind(layout).pieces) <= 1.02 * (length + 8) ** 2 / 8
    assert pairs(Local(128).bind(layout).pieces) <= 1.3 * (length + 64) * 257
    both = pairs(Sparse(8, 128).bind(layout).pieces)
    assert both == pairs(Atrous(8).bind(layout).pieces) + pairs(Local(128).bind(layout).pieces)


def test_short_rows_are_not_swept_into_long_windows() -> None:
    layout = Layout.of((4000, 3, 3, 3, 3, 2000))
    assert pairs(Local(100).bind(layout).pieces) <= 1.3 * 6100 * 201 + 4 * 9


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, call, types, arguments=(), named=None):  # type: ignore[no-untyped-def]
        result = call(*arguments, **(named or {}))
        for tensor in _tensors(result):
            self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def _tensors(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, (list, tuple)):
        for part in result:
            yield from _tensors(part)


def largest_tensor(rule: Rule, length: int, dropout: float = 0.0) -> int:
    with Largest() as seen:
        layout = Layout.of((length,))
        inputs = [torch.randn(length, 1, 2, requires_grad=True) for _ in range(3)]
        attend(*inputs, rule.bind(layout), scale=1.0, dropout=dropout).sum().backward()
    return seen.numbers


@pytest.mark.parametrize("rule", [Local(16), Local(16) & Causal(), UniLM() & Local(16)], ids=repr)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_memory_is_linear(rule: Rule, dropout: float) -> None:
    """Masks, windows, weights and gradients: the largest tensor of training doubles with the length."""
    sizes = [largest_tensor(rule, length, dropout) for length in (2000, 4000)]
    assert sizes[1] <= 2.1 * sizes[0] and sizes[1] < 4000 * 200


@pytest.mark.parametrize("rule", [Atrous(50), Sparse(50, 16), UniLM() & Atrous(50)], ids=repr)
def test_memory_is_never_all_pairs(rule: Rule) -> None:
    assert largest_tensor(rule, 3000) <= 1.1 * 3000**2 / 50


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rule", [Local(2), Sparse(3), Sparse(3) & Causal()], ids=repr)
def test_half_precision_is_near(rule: Rule) -> None:
    visibility = rule.bind(patterned_layout((15, 1, 9)))
    inputs = [torch.randn(25, 2, 8) for _ in range(3)]
    exact = attend(*inputs, visibility, scale=0.35)
    for dtype in (torch.bfloat16, torch.float16):
        half = attend(*(x.to(dtype) for x in inputs), visibility, scale=0.35)
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), exact, rtol=0.03, atol=0.03)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_stay_finite(dtype: torch.dtype) -> None:
    for size in (1e-7, 200.0):
        inputs = [(size * torch.randn(20, 1, 8)).to(dtype).requires_grad_() for _ in range(3)]
        for rule in (Local(2), Atrous(3), Sparse(3), Sparse(4, 1) & Causal()):
            mixed = attend(*inputs, rule.bind(Layout.of((20,))), scale=1.0)
            slopes = torch.autograd.grad(mixed.float().sum(), inputs)
            assert all(tensor.isfinite().all() for tensor in (mixed, *slopes))


@pytest.mark.usefixtures("small_blocks")
def test_queries_that_see_nothing_give_zeros() -> None:
    class Later(Local):
        """Neighbours after a token, itself left out: the last one of a row sees nothing."""

        by_distance = False

        def allows(self, query, key):  # type: ignore[no-untyped-def]
            return super().allows(query, key) & (key.index > query.index)

    for rule in (Later(2), Later(2) | (Later(9) & Atrous(4))):
        layout = Layout.of((12, 1, 5))
        inputs = [torch.randn(18, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
        mixed = attend(*inputs, rule.bind(layout), scale=0.5)
        assert not mixed[[11, 12, 17]].any() and mixed[0].all()
        slopes = torch.autograd.grad(mixed.sum(), inputs)
        assert all(slope.isfinite().all() for slope in slopes)
        oracle = [naive_visible(rule, row) for row in rows_of(layout)]
        naive = naive_attend(*inputs, rule.bind(layout), oracle, 0.5)
        torch.testing.assert_close(mixed, naive)


@pytest.mark.usefixtures("small_blocks")
def test_dropout_acts_on_weights_of_all_pieces() -> None:
    layout = Layout.of((64,))
    x, ones = torch.zeros(64, 1, 4), torch.ones(64, 1, 4)
    visibility = Sparse(3).bind(layout)
    torch.manual_seed(0)
    mixed = attend(x, x, ones, visibility, scale=1.0, dropout=0.5)
    assert 0.8 < float(mixed.mean()) < 1.2 and float(mixed.std()) > 0.01
    torch.testing.assert_close(attend(x, x, ones, visibility, scale=1.0), ones)


@pytest.mark.usefixtures("small_blocks")
def test_autocast_computes_in_half_precision() -> None:
    inputs = [torch.randn(20, 1, 8, requires_grad=True) for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attend(*inputs, Sparse(3).bind(Layout.of((20,))), scale=0.3)
    assert mixed.dtype == torch.bfloat16
    assert all(slope.dtype == torch.float32 for slope in torch.autograd.grad(mixed.float().sum(), inputs))


@pytest.mark.usefixtures("small_blocks")
def test_shared_key_heads() -> None:
    visibility = Sparse(3).bind(Layout.of((17, 4)))
    query, key, value = torch.randn(21, 4, 6), torch.randn(21, 2, 6), torch.randn(21, 2, 6)
    repeated = (tensor.repeat_interleave(2, 1) for tensor in (key, value))
    torch.testing.assert_close(
        attend(query, key, value, visibility, scale=0.4), attend(query, *repeated, visibility, scale=0.4)
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize(
    "rule", [Local(9), Atrous(7) & Causal(), Sparse(7, 20), UniLM() & Sparse(7)], ids=repr
)
def test_a_gpu_gives_the_same(rule: Rule) -> None:
    layout = patterned_layout((211, 30, 97))
    inputs = [torch.randn(layout.total, 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    there = [tensor.detach().cuda().requires_grad_() for tensor in inputs]
    mixed = attend(*inputs, rule.bind(layout), scale=0.4)
    other = attend(*there, rule.bind(layout.to("cuda")), scale=0.4)
    torch.testing.assert_close(other.cpu(), mixed)
    slopes = torch.autograd.grad(mixed.square().sum(), inputs)
    for found, expected in zip(torch.autograd.grad(other.square().sum(), there), slopes, strict=True):
        torch.testing.assert_close(found.cpu(), expected)
