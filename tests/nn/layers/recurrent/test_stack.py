"""Stacks and their regularisation."""

from __future__ import annotations

import pytest
import torch

from hanformer.errors import UserError
from hanformer.nn.layers.recurrent.kinds import make_cell
from hanformer.nn.layers.recurrent.regularise import DroppedEmbedding, LockedDropout, WeightDrop
from hanformer.nn.layers.recurrent.stack import RecurrentStack


def stack_of(rate: float = 0.0, drop: float = 0.0) -> RecurrentStack:
    cells = [make_cell("lstm", 4, 6), make_cell("gru", 6, 3)]
    return RecurrentStack(
        cells, input_dropout=rate, hidden_dropout=rate, output_dropout=rate, weight_drop=drop
    )


def test_layers_upon_each_other() -> None:
    stack, x = stack_of(), torch.randn(5, 2, 4)
    output = stack(x)
    first, state = stack.layers[0](x)
    second, _ = stack.layers[1](first)
    assert torch.equal(output.outputs, second) and torch.equal(output.raw[0], first)
    assert torch.equal(output.states[0][1], state[1])


def test_locked_dropout_has_one_mask_for_all_steps() -> None:
    dropout = LockedDropout(0.5)
    dropped = dropout(torch.ones(6, 200, 10))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped)) and set(dropped.unique().tolist()) == {
        0.0,
        2.0,
    }
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.1)
    assert not torch.equal(dropped[0, 0], dropped[0, 1]) or not torch.equal(dropped[0, 1], dropped[0, 2])
    assert torch.equal(dropout.eval()(dropped), dropped) and dropout.train()(torch.ones(0, 2, 3)).shape == (
        0,
        2,
        3,
    )


def test_weight_drop_scales_in_evaluation_and_not_in_training() -> None:
    drop, weight = WeightDrop(0.25), torch.ones(200, 50)
    assert set(drop(weight).unique().tolist()) == {0.0, 1.0}
    assert float(drop(weight).mean()) == pytest.approx(0.75, abs=0.02)
    assert torch.equal(drop.eval()(weight), 0.75 * weight) and WeightDrop(0.0)(weight) is weight


def test_embedding_dropout_drops_whole_words() -> None:
    embedding = DroppedEmbedding(50, 4, 0.5)
    ids = torch.arange(50).repeat(3)
    vectors, table = embedding(ids), embedding.table.weight
    assert torch.equal(vectors[:50], vectors[50:100])
    whole = (vectors[:50] == 0).all(1) | torch.isclose(vectors[:50], 2 * table).all(1)
    assert whole.all() and 0 < int((vectors[:50] == 0).all(1).sum()) < 50
    assert torch.equal(embedding.eval()(ids), table[ids])


def test_folding_the_weight_drop_keeps_the_outputs() -> None:
    stack, x = stack_of(drop=0.3).eval(), torch.randn(4, 2, 4)
    before = stack(x).outputs
    stack.fold_weight_drop()
    torch.testing.assert_close(stack(x).outputs, before)
    assert torch.equal(stack.weight(stack.layers[0]), stack.layers[0].recurrent.weight)


def test_training_draws_from_torch_alone() -> None:
    stack, x = stack_of(0.4, 0.4), torch.randn(4, 2, 4)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(stack(x).outputs)
    assert torch.equal(*results) and not torch.equal(stack(x).outputs, results[0])


def test_impossible_stacks_are_refused() -> None:
    with pytest.raises(UserError, match="layers that take what the one below gives"):
        RecurrentStack([make_cell("lstm", 4, 6), make_cell("lstm", 5, 6)])
    with pytest.raises(UserError, match="got sizes"):
        RecurrentStack([])
    for part in (LockedDropout, WeightDrop):
        with pytest.raises(UserError, match="expected a rate from 0 up to 1, got 1"):
            part(1.0)
