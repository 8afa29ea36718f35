"""Who may look at whom: each rule against its formula, plans against the dense oracle."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import (
    PADDING_TOLERANCE,
    Both,
    Causal,
    Either,
    Full,
    Rule,
    Tokens,
    UniLM,
    cut_rows,
)
from tests.harness import (
    check_claims,
    check_rule,
    check_visibility,
    naive_visible,
    patterned_layout,
    rows_of,
)


@dataclass(frozen=True)
class Near(Rule):
    """A band of one token to either side: not transitive, unlike the three of the package."""

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return (query.index - key.index).abs() <= 1


@dataclass(frozen=True)
class OddKeys(Rule):
    """Only the odd keys: a row of length 1 sees nothing at all."""

    def allows(self, query: Tokens, key: Tokens) -> Tensor:
        return (key.index % 2 == 1) & (query.index >= 0)


RULES = [
    Full(),
    Causal(),
    UniLM(),
    Near(),
    OddKeys(),
    Near() & Causal(),
    UniLM() | Near(),
    Full() & OddKeys(),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rule_equals_its_definition(rule: Rule) -> None:
    check_rule(rule)


def test_full_sees_all() -> None:
    assert naive_visible(Full(), torch.tensor([0, 1, 1, 0])).all()


def test_causal_sees_the_left() -> None:
    assert torch.equal(
        naive_visible(Causal(), torch.zeros(5, dtype=torch.int64)), torch.ones(5, 5).tril().bool()
    )


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([0, 0, 1, 1], [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]),
        # A 0 after the 1s sees everything, and is seen by the last 1.
        ([0, 1, 1, 0], [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]),
        (
            [0, 0, 1, 1, 0],
            [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
        ),
        ([1], [[1]]),
        ([0], [[1]]),
    ],
)
def test_unilm_follows_the_running_sum(segments: list[int], expected: list[list[int]]) -> None:
    assert naive_visible(UniLM(), torch.tensor(segments)).int().tolist() == expected


def test_unilm_starts_anew_in_every_row() -> None:
    layout = Layout.of((2, 2), torch.tensor([1, 1, 0, 0]))
    assert UniLM().bind(layout).dense()[1].all()


def test_rules_join() -> None:
    segments = torch.tensor([0, 1, 1, 0])
    near, causal = naive_visible(Near(), segments), naive_visible(Causal(), segments)
    assert torch.equal(naive_visible(Near() & Causal(), segments), near & causal)
    assert torch.equal(naive_visible(Near() | Causal(), segments), near | causal)
    assert Near() & Causal() == Both(Near(), Causal()) and Near() | Causal() == Either(Near(), Causal())
    assert Causal() == Causal() and Causal() != UniLM()


def test_no_mask_where_none_is_needed() -> None:
    equal, ragged = Layout.of((6, 6, 6)), Layout.of((6, 5, 6))
    assert [plan.mask for plan in Full().bind(equal).plans] == [None]
    assert [(plan.mask, plan.causal) for plan in Causal().bind(ragged).plans] == [(None, True)]
    assert all(plan.mask is not None for plan in Full().bind(ragged).plans)
    assert all(plan.mask is not None and not plan.causal for plan in Causal().bind(equal, ragged).plans)


def test_claims_are_checked() -> None:
    class Boaster(UniLM):
        is_causal = True

    with pytest.raises(AssertionError):
        check_claims(Boaster())


def test_a_rule_that_is_causal_needs_no_mask() -> None:
    class Earlier(Near):
        """j <= i in other words."""

        is_causal = True

        def allows(self, query: Tokens, key: Tokens) -> Tensor:
            return query.index - key.index >= 0

    check_rule(Earlier())
    assert [plan.mask for plan in Earlier().bind(Layout.of((6, 5))).plans] == [None]


def test_equal_rows_are_views() -> None:
    packed = torch.randn(12, 2, 3)
    group = Full().bind(Layout.of((4, 4, 4))).plans[0].query
    assert group.gather(packed).data_ptr() == packed.data_ptr()


def test_plans_are_computed_once() -> None:
    visibility = UniLM().bind(patterned_layout((5, 3)))
    assert visibility.plans is visibility.plans


lengths = st.lists(st.integers(0, 7), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=9))
def test_cuts_are_neighbours_with_little_padding(pairs: list[tuple[int, int]]) -> None:
    columns = tuple(zip(*pairs, strict=True)) or ((), ())
    runs = cut_rows(columns)
    assert [row for first, last in runs for row in range(first, last)] == list(range(len(pairs)))
    for first, last in runs:
        for column in columns:
            area = max(column[first:last]) * (last - first)
            assert last - first == 1 or sum(column[first:last]) >= (1 - PADDING_TOLERANCE) * area


@settings(max_examples=20)
@given(lengths, st.sampled_from(RULES))
def test_any_lengths(lengths: list[int], rule: Rule) -> None:
    torch.manual_seed(0)
    layout = patterned_layout(lengths)
    check_visibility(rule.bind(layout), [naive_visible(rule, row) for row in rows_of(layout)])
