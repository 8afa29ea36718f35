"""SimBERT, SimCSE and CoSENT against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.errors import UserError
from hanformer.train.losses.cosent import cosent, pair_cosines
from hanformer.train.losses.numerics import sum_rows, unit
from hanformer.train.losses.simbert import similar_pairs
from hanformer.train.losses.simcse import flat_nce, info_nce, simcse
from tests.harness import EXACT


def naive_pairs(vectors: Tensor, scale: float) -> list[float]:
    def cosine(i: int, j: int) -> float:
        return float(torch.cosine_similarity(vectors[i], vectors[j], dim=0))

    losses = []
    for i in range(len(vectors)):
        others = sum(math.exp(scale * cosine(i, j)) for j in range(len(vectors)) if j != i)
        losses.append(math.log(others) - scale * cosine(i, i + 1 if i % 2 == 0 else i - 1))
    return losses


@pytest.mark.parametrize(("function", "scale"), [(similar_pairs, 30.0), (simcse, 20.0)])
def test_partners_find_each_other(function: object, scale: float) -> None:
    vectors = torch.randn(8, 3).double()
    assert function(vectors).tolist() == pytest.approx(naive_pairs(vectors, scale), abs=1e-9)


def test_closed_forms() -> None:
    vectors = torch.eye(4).double().repeat_interleave(2, 0)
    expected = torch.full((8,), math.log1p(6 * math.exp(-30)), dtype=torch.float64)
    torch.testing.assert_close(similar_pairs(vectors), expected, rtol=1e-3, atol=1e-15)
    same = torch.ones(6, 4).double()
    torch.testing.assert_close(
        similar_pairs(same), torch.full((6,), math.log(5), dtype=torch.float64), **EXACT
    )
    assert similar_pairs(torch.randn(2, 3)).abs().max() < 1e-5


def test_length_does_not_matter_and_zero_vectors_are_harmless() -> None:
    vectors = torch.randn(6, 4).double()
    scaled = vectors * torch.tensor([1, 5, 0.1, 7, 1e-9, 1e9])[:, None]
    torch.testing.assert_close(similar_pairs(scaled), similar_pairs(vectors), **EXACT)
    empty = torch.randn(4, 3)
    empty[1] = 0
    empty.requires_grad_()
    similar_pairs(empty).sum().backward()
    assert empty.grad.isfinite().all() and not empty.grad[1].any()
    assert not unit(torch.zeros(2, 3)).any()


def test_negatives_of_other_workers() -> None:
    """Two workers that give each other their vectors have the losses of one."""
    vectors = torch.randn(10, 4).double()
    first = similar_pairs(vectors[:4], others=vectors[4:])
    second = similar_pairs(vectors[4:], others=vectors[:4])
    torch.testing.assert_close(torch.cat([first, second]), similar_pairs(vectors), **EXACT)


def test_info_nce() -> None:
    queries, keys = torch.randn(3, 4).double(), torch.randn(5, 4).double()
    cosines = torch.cosine_similarity(queries[:, None], keys, dim=-1) * 20
    torch.testing.assert_close(info_nce(queries, keys), -cosines.log_softmax(-1).diagonal(), **EXACT)
    places = torch.tensor([4, 0, 4])
    expected = -cosines.log_softmax(-1)[torch.arange(3), places]
    torch.testing.assert_close(info_nce(queries, keys, places), expected, **EXACT)


def test_flat_nce_is_info_nce_of_another_size() -> None:
    """The gradient is InfoNCE's, divided by the softmax share of the negatives; it lives on where that vanishes."""
    queries, keys = torch.randn(3, 4).double().requires_grad_(), torch.randn(5, 4).double()
    found = flat_nce(queries, keys)
    torch.testing.assert_close(found, torch.ones(3).double())
    (flat,) = torch.autograd.grad(found.sum(), queries)
    loss = info_nce(queries, keys)
    share = 1 - (-loss.detach()).exp()
    (plain,) = torch.autograd.grad((loss / share).sum(), queries)
    torch.testing.assert_close(flat, plain, **EXACT)


def naive_cosent(similarities: list[float], labels: list[int], scale: float) -> float:
    places = range(len(labels))
    pairs = [(i, j) for i in places for j in places if labels[i] > labels[j]]
    return math.log1p(sum(math.exp(scale * (similarities[j] - similarities[i])) for i, j in pairs))


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 3)), max_size=8))
@settings(deadline=None, derandomize=True)
def test_cosent(pairs: list[tuple[float, int]]) -> None:
    similarities = torch.tensor([value for value, _ in pairs], dtype=torch.float64).requires_grad_()
    labels = torch.tensor([label for _, label in pairs], dtype=torch.int64)
    found = cosent(similarities, labels, 5.0)
    expected = naive_cosent([value for value, _ in pairs], labels.tolist(), 5.0)
    assert found.item() == pytest.approx(expected, abs=1e-10)
    found.backward()
    assert similarities.grad.isfinite().all()
    torch.testing.assert_close(cosent(similarities, labels * 7 - 3, 5.0), found)


def test_cosent_of_one_label_has_nothing_to_order() -> None:
    assert cosent(torch.randn(4), torch.ones(4)) == 0


def test_pair_cosines() -> None:
    vectors = torch.randn(6, 3).double()
    expected = torch.cosine_similarity(vectors[0::2], vectors[1::2])
    torch.testing.assert_close(pair_cosines(vectors), expected, **EXACT)


def test_what_does_not_fit() -> None:
    for function in (similar_pairs, simcse, pair_cosines):
        with pytest.raises(UserError, match=r"neighbouring rows.*got \[3, 2\]"):
            function(torch.zeros(3, 2))
    for function in (info_nce, flat_nce):
        for keys in (torch.zeros(2, 2), torch.zeros(3, 4)):
            with pytest.raises(UserError, match="for every query"):
                function(torch.zeros(3, 2), keys)
    with pytest.raises(UserError, match="two keys or more"):
        flat_nce(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(UserError, match="one label a pair"):
        cosent(torch.zeros(3), torch.zeros(2))


def test_rows_become_an_objective() -> None:
    rows = torch.tensor([1.0, math.inf, 3.0], requires_grad=True)
    loss = sum_rows(rows, torch.tensor([2.0, 0.0, 0.5]))
    assert (loss.total.item(), loss.count.item()) == (3.5, 2.5)
    loss.total.backward()
    assert rows.grad.tolist() == [2, 0, 0.5]
    plain = sum_rows(torch.ones(2, 3))
    assert (float(plain.total), plain.count) == (6, 6)
