"""Logits beyond half precision: outputs and gradients stay finite. (squared_relu grows without bound by definition.)"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hanformer.mechanisms import Atrous, GatedUnit, Local, Mechanism, Softmax, Sparse, Taylor
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.attention.state import Opening
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Causal, Full, Rule
from tests.harness import tiny_config

RECORDS: tuple[Mechanism, ...] = (
    Softmax(),
    Local(radius=3),
    Atrous(rate=2),
    Sparse(rate=3),
    Taylor(2),
    Taylor(4, monotone=True),
    GatedUnit("softmax", 8),
    GatedUnit("softmax_plus", 8),
)
#: The last row is long enough for sparse rules to be cut.
LENGTHS = (7, 1, 40, 200)
#: Products of such channels are beyond the 65,504 of float16, a little and very far.
LARGE, LARGEST = 200.0, 6e4


def extremes(made: SoftmaxAttention, dtype: torch.dtype, factor: float) -> list[Tensor]:
    """Queries and keys with channels as large as the factor, and values, of a model of one or two heads."""
    count, heads = sum(LENGTHS), 1 if hasattr(made, "gate") else 2
    signs = [torch.randn(count, heads, 8).clamp(-1, 1) * factor for _ in range(2)]
    return [x.to(dtype).requires_grad_() for x in (*signs, torch.randn(count, heads, 8))]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("rule", [Full(), Causal()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_passes(record: Mechanism, dtype: torch.dtype, rule: Rule, keep: bool) -> None:
    made = attention_of(tiny_config(attention=record, max_positions=256)).to(dtype)
    visibility = record.restrict(rule).bind(Layout.of(LENGTHS))
    for factor in (LARGE, LARGEST):
        given = extremes(made, dtype, factor)
        mixed = made.mix(*given, Pass(visibility, keep=keep))
        mixed.float().sum().backward()
        assert mixed.dtype == dtype and mixed.isfinite().all()
        assert mixed.abs().max() <= given[2].abs().max() * 1.02
        # Flash kernels compute weights again from sums of exponents, whose rounding is too coarse for the largest.
        assert (factor == LARGEST and not keep) or all(x.grad.isfinite().all() for x in given)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("record", [Softmax(), Taylor(2), GatedUnit("softmax_plus", 8)], ids=str)
def test_decoding(record: Mechanism, dtype: torch.dtype) -> None:
    """The prompt's own mixing and the cache's agree on the last token, and both are finite."""
    made = attention_of(tiny_config(attention=record, application="lm")).to(dtype)
    normalise = getattr(made, "normalise", None)
    query, key, value = (x.detach()[:7] for x in extremes(made, dtype, LARGEST))
    expected = made.mix(query, key, value, Pass(Causal().bind(Layout.of((7,)))))[-1:]
    cache = KeyValueCache(Opening(Causal(), Layout.of((6,)), layers=1, segment=0))
    cache.store_prompt(0, key[:6], value[:6])
    cache.begin(1)
    found = cache.attend(0, query[6:], key[6:], value[6:], made.scale, normalise)
    assert found.dtype == dtype and found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
