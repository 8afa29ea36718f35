"""Layers, each against its formula."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from hanformer.config import NORM_PLACES, POSITIONS
from hanformer.errors import UserError
from hanformer.models import build
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.positions import rotary_table, rotate, sinusoidal
from hanformer.nn.functional.visibility import UniLM
from hanformer.nn.layers.block import block_of
from hanformer.nn.layers.embedding import Embeddings
from hanformer.nn.layers.feedforward import FeedForward
from hanformer.nn.layers.heads import Pooler, TransformHead
from tests.harness import EXACT, naive_attend, naive_visible, patterned_layout, rows_of, tiny_config

Layer = TypeVar("Layer", bound=nn.Module)


def randomise(layer: Layer) -> Layer:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer.double().eval()


def hidden(tokens: int = 5) -> Tensor:
    return torch.randn(tokens, 16, dtype=torch.float64)


def test_feedforward() -> None:
    layer, x = randomise(FeedForward(tiny_config(activation="relu"))), hidden()
    inner = (x @ layer.expand.weight.T + layer.expand.bias).clamp(min=0)
    torch.testing.assert_close(layer(x), inner @ layer.contract.weight.T + layer.contract.bias, **EXACT)


@pytest.mark.parametrize("norm_place", NORM_PLACES)
def test_block(norm_place: str) -> None:
    layer, x = randomise(block_of(tiny_config(norm_place=norm_place))), hidden()

    def attention(y: Tensor) -> Tensor:
        return 3 * y + 1

    first, second = layer.attention_norm, layer.feedforward_norm
    if norm_place == "post":
        middle = first(x + attention(x))
        expected = second(middle + layer.feedforward(middle))
    elif norm_place == "pre":
        middle = x + attention(first(x))
        expected = middle + layer.feedforward(second(middle))
    else:
        middle = x + attention(x)
        expected = second(middle + layer.feedforward(first(middle)))
    torch.testing.assert_close(layer(x, attention), expected, **EXACT)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("norm_place", NORM_PLACES)
def test_embeddings(position: str, norm_place: str) -> None:
    layer = randomise(Embeddings(tiny_config(position=position, norm_place=norm_place)))
    layout = Layout.of((2, 1), torch.tensor([0, 1, 1]), torch.tensor([4, 0, 9]))
    expected = layer.token.weight[[7, 8, 9]] + layer.segment.weight[[0, 1, 1]]
    if position == "learned":
        expected = expected + layer.position.weight[[4, 0, 9]]
    if position == "sinusoidal":
        expected = 4 * expected + sinusoidal(layout.positions, 16, dtype=torch.float64)
    if norm_place == "post":
        expected = layer.norm(expected)
    torch.testing.assert_close(layer(torch.tensor([7, 8, 9]), layout), expected, **EXACT)


def test_sinusoidal_positions_are_pairs_of_channels() -> None:
    for sizes in ({"hidden_size": 15, "attention_heads": 3}, {"embedding_size": 7}):
        with pytest.raises(UserError, match="sinusoidal positions are pairs of channels"):
            build(tiny_config(position="sinusoidal", **sizes))
    build(tiny_config(position="sinusoidal", hidden_size=15, attention_heads=3, embedding_size=8))


def test_sinusoidal_positions_do_not_drown_the_tokens() -> None:
    model = build(tiny_config(position="sinusoidal", norm_place="pre", hidden_size=768))
    table = sinusoidal(torch.arange(1), 768)
    learned = model.eval().embed(torch.tensor([7]), Layout.of((1,))).detach() - table
    assert 0.5 < float(learned.norm() / table.norm()) < 2


def test_embeddings_refuse_what_they_do_not_hold() -> None:
    layer = Embeddings(tiny_config())
    for ids, layout, message in (
        ([23], Layout.of((1,)), "token ids must lie between 0 and 22; got 23 to 23"),
        ([1], Layout.of((1,), torch.tensor([2])), "segment ids must lie between 0 and 1"),
        ([1], Layout.of((1,), positions=torch.tensor([40])), "positions .* shorten the text"),
        ([1], Layout.of((1,), positions=torch.tensor([-1])), "positions must lie"),
    ):
        with pytest.raises(UserError, match=message):
            layer(torch.tensor(ids), layout)


def test_positions_without_a_table_have_no_end() -> None:
    far = Layout.of((1,), positions=torch.tensor([4000]))
    for position in ("sinusoidal", "rotary", "none"):
        assert Embeddings(tiny_config(position=position))(torch.tensor([1]), far).isfinite().all()


def test_embeddings_of_nothing() -> None:
    assert Embeddings(tiny_config())(torch.zeros(0, dtype=torch.int64), Layout.of((0,))).shape == (0, 16)


def test_vocabulary_head_is_tied() -> None:
    table = nn.Embedding(23, 16)
    layer, x = randomise(TransformHead(tiny_config(activation="tanh"), table.double())), hidden()
    features = layer.norm((x @ layer.transform.weight.T + layer.transform.bias).tanh())
    torch.testing.assert_close(layer(x), features @ table.weight.T + layer.bias, **EXACT)
    layer(x).sum().backward()
    assert table.weight.grad is not None and sorted(layer.state_dict()) == [
        "bias",
        "norm.bias",
        "norm.weight",
        "transform.bias",
        "transform.weight",
    ]


def test_pooler() -> None:
    layer, x = randomise(Pooler(tiny_config())), hidden()
    torch.testing.assert_close(layer(x), (x @ layer.dense.weight.T + layer.dense.bias).tanh(), **EXACT)


@pytest.mark.parametrize("position", ["none", "rotary"])
def test_softmax_attention(position: str) -> None:
    """Project, place, mix, merge: against the same steps with explicit logits."""
    layer = randomise(SoftmaxAttention(tiny_config(position=position)))
    layout, x = patterned_layout((4, 1, 3)), hidden(8)
    query, key, value = (part(x).unflatten(-1, (2, 8)) for part in (layer.query, layer.key, layer.value))
    if position == "rotary":
        table = rotary_table(layout.positions, 8, dtype=torch.float64)
        query, key = rotate(query, table), rotate(key, table)
    visibility = UniLM().bind(layout)
    oracle = [naive_visible(UniLM(), row) for row in rows_of(layout)]
    mixed = naive_attend(query, key, value, visibility, oracle, 8**-0.5)
    torch.testing.assert_close(layer(x, Pass(visibility)), layer.output(mixed.flatten(-2)), **EXACT)


def test_attention_weights_are_dropped_in_training_alone() -> None:
    layer = randomise(SoftmaxAttention(tiny_config(attention_dropout=0.5)))
    batch, x = Pass(UniLM().bind(patterned_layout((8,)))), hidden(8)
    assert torch.equal(layer(x, batch), layer(x, batch))
    layer.train()
    assert not torch.equal(layer(x, batch), layer(x, batch))
