"""DGCNN's layers: gated convolution, attention pooling and mixed embedding, against naive forms and torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout, find_packing
from hanformer.nn.layers.attention_pooling import AttentionPooling
from hanformer.nn.layers.gated_convolution import GatedConvolution, GatedConvolutions, shifted
from hanformer.nn.layers.mixed_embedding import MixedEmbedding, spread, word_of_each_character
from tests.harness import EXACT

LENGTHS = (5, 1, 0, 7, 2)


def tokens(lengths: tuple[int, ...] = LENGTHS, size: int = 4, grad: bool = False) -> tuple[Tensor, Layout]:
    layout = Layout.of(lengths)
    return torch.randn(layout.total, size, dtype=torch.float64, requires_grad=grad), layout


def naive(layer: GatedConvolution, row: Tensor, kernel: int, dilation: int) -> Tensor:
    """torch's own convolution over one row, with as many zeros at its ends as it needs."""
    size = row.shape[1]
    weight = layer.convolution.weight.unflatten(1, (kernel, size)).transpose(1, 2)
    both = functional.conv1d(
        row.T[None], weight, layer.convolution.bias, padding=dilation * (kernel // 2), dilation=dilation
    )
    update, gate = both[0].T.chunk(2, dim=-1)
    kept = layer.mapping(row)
    return kept * (1 - gate.sigmoid()) + update * gate.sigmoid()


@settings(deadline=None, derandomize=True, max_examples=20)
@given(
    st.lists(st.integers(0, 9), max_size=5),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 6),
    st.sampled_from([None, 3]),
)
def test_convolution_is_that_of_each_row(
    lengths: list[int], kernel: int, dilation: int, out_size: int | None
) -> None:
    layer = GatedConvolution(4, out_size, kernel=kernel, dilation=dilation).double().eval()
    x, layout = tokens(tuple(lengths))
    rows = [naive(layer, row, kernel, dilation) for row in x.split(lengths) if len(row)]
    expected = torch.cat([torch.zeros(0, out_size or 4).double(), *rows])
    torch.testing.assert_close(layer(x, layout), expected, **EXACT)


def test_padding_comes_back_as_zeros_and_changes_nothing() -> None:
    layer = GatedConvolutions(4, (1, 2, 1)).double().eval()
    padded = torch.randn(3, 6, 4, dtype=torch.float64)
    outputs = []
    for real in (torch.tensor([[1, 1, 1, 0, 0, 0]] * 3), torch.tensor([[0, 0, 0, 1, 1, 1]] * 3)):
        packing = find_packing(real.bool())
        shown = padded.clone()
        shown[real.bool()] = padded[:, :3].flatten(0, 1)
        found = packing.unpack(layer(packing.pack(shown), packing.layout))
        assert not found[~real.bool()].any()
        outputs.append(found[real.bool()])
    torch.testing.assert_close(*outputs, **EXACT)


def test_gates_open_and_shut() -> None:
    """At +∞ the gate gives the plain convolution, at −∞ the identity."""
    layer, (x, layout) = GatedConvolution(4).double().eval(), tokens()
    with torch.no_grad():
        layer.convolution.weight[4:] = 0
        layer.convolution.bias[4:] = 1e4
        taps = torch.cat([shifted(x, layout, offset) for offset in (-1, 0, 1)], -1)
        plain = taps @ layer.convolution.weight[:4].T + layer.convolution.bias[:4]
        torch.testing.assert_close(layer(x, layout), plain, **EXACT)
        layer.convolution.bias[4:] = -1e4
        assert torch.equal(layer(x, layout), x)


@pytest.mark.parametrize(("dilations", "reach"), [((1, 2, 1), 4), ((1, 2, 4, 8, 16, 1), 32)])
def test_receptive_field(dilations: tuple[int, ...], reach: int) -> None:
    layer = GatedConvolutions(2, dilations).double().eval()
    x, layout = tokens((70, 70), 2, grad=True)
    middle = torch.autograd.grad(layer(x, layout)[35].sum(), x)[0].ne(0).any(-1)
    assert middle.nonzero().flatten().tolist() == list(range(35 - reach, 35 + reach + 1))
    border = torch.autograd.grad(layer(x, layout)[69].sum(), x)[0].ne(0).any(-1)
    assert border.nonzero().flatten().tolist() == list(range(69 - reach, 70))


def test_dropout_acts_on_the_gate_alone() -> None:
    """Where the gate is shut whatever is dropped, nothing of the input is lost in training."""
    layer, (x, layout) = GatedConvolution(4, dropout=0.9).double().train(), tokens()
    with torch.no_grad():
        layer.convolution.weight.zero_()
        layer.convolution.bias.zero_()
    torch.testing.assert_close(layer(x, layout), x / 2, **EXACT)


def test_convolution_gradients() -> None:
    layer, (x, layout) = GatedConvolution(4, 3, dilation=2).double().eval(), tokens(grad=True)
    assert torch.autograd.gradcheck(lambda y: layer(y, layout), x)


@pytest.mark.parametrize("sizes", [{"kernel": 2}, {"dilation": 0}, {"kernel": 0}, {"out_size": 0}])
def test_convolutions_that_cannot_be(sizes: dict[str, int]) -> None:
    with pytest.raises(UserError, match="odd kernel"):
        GatedConvolution(4, **sizes)


# ------------------------------------------------------------------------------- attention pooling
def test_pooling_by_hand() -> None:
    layer, (x, layout) = AttentionPooling(4, 3).double(), tokens()
    pooled = layer(x, layout)
    for row, found in zip(x.split(list(LENGTHS)), pooled, strict=True):
        scores = (row @ layer.inner.weight.T).tanh() @ layer.score.weight[0]
        expected = (scores.exp() / scores.exp().sum()) @ row if len(row) else torch.zeros(4).double()
        torch.testing.assert_close(found, expected, **EXACT)


def test_equal_scores_give_the_mean_and_order_does_not_matter() -> None:
    layer, (x, layout) = AttentionPooling(4).double(), tokens((3, 4))
    turned = torch.cat([x[:3].flip(0), x[3:].flip(0)])
    torch.testing.assert_close(layer(turned, layout), layer(x, layout), **EXACT)
    with torch.no_grad():
        layer.score.weight.zero_()
    torch.testing.assert_close(layer(x, layout), torch.stack([x[:3].mean(0), x[3:].mean(0)]), **EXACT)


def test_pooling_of_nothing_and_gradients() -> None:
    layer = AttentionPooling(4).double()
    assert not layer(*tokens((0, 0))).any() and layer(*tokens(())).shape == (0, 4)
    x, layout = tokens((3, 0, 1), grad=True)
    assert torch.autograd.gradcheck(lambda y: layer(y, layout), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pooling_in_half_precision(dtype: torch.dtype) -> None:
    layer, (x, layout) = AttentionPooling(4).to(dtype), tokens()
    found = layer((x * 1e4).to(dtype), layout)
    assert found.dtype == dtype and found.isfinite().all()


# --------------------------------------------------------------------------------- mixed embedding
def test_mixed_embedding_by_hand() -> None:
    vectors = torch.randn(3, 5)
    layer = MixedEmbedding(7, vectors, 4).eval()
    characters, words = torch.tensor([1, 6, 0]), torch.tensor([2, 2, 0])
    expected = layer.character.weight[characters] + vectors[words] @ layer.mapping.weight.T
    torch.testing.assert_close(layer(characters, words), expected)


def test_word_vectors_stay() -> None:
    vectors = torch.randn(3, 5)
    kept, layer = vectors.clone(), MixedEmbedding(7, vectors, 4)
    vectors.zero_()
    layer(torch.tensor([1]), torch.tensor([2])).sum().backward()
    assert torch.equal(layer.word.weight, kept) and layer.word.weight.grad is None
    assert layer.character.weight.grad is not None and layer.mapping.weight.grad is not None
    with pytest.raises(UserError, match=r"word vectors \[words, size\].*got \[3\]"):
        MixedEmbedding(7, torch.randn(3))
    with pytest.raises(UserError, match="int64"):
        MixedEmbedding(7, torch.ones(3, 2, dtype=torch.int64))


def test_words_are_spread_over_their_characters() -> None:
    words = ["研究", "生命", "的", "起源"]
    assert word_of_each_character("研究生命的起源", words) == [0, 0, 1, 1, 2, 3, 3]
    assert spread([9, 8, 7, 6], "研究生命的起源", words).tolist() == [9, 9, 8, 8, 7, 6, 6]
    assert word_of_each_character("", []) == [] and spread([], "", []).shape == (0,)


@pytest.mark.parametrize(
    ("text", "words", "place"), [("a b", ["a", "b"], 1), ("ab", ["a"], 1), ("ab", ["ab", "c"], 2)]
)
def test_words_that_are_not_the_text(text: str, words: list[str], place: int) -> None:
    with pytest.raises(UserError, match=f"join to the text.*part at character {place}"):
        word_of_each_character(text, words)
