"""Plain recurrent cells against their definitions, against torch's layers, and against each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.nn.layers.recurrent.cell import RecurrentCell, unroll
from hanformer.nn.layers.recurrent.gru import ModifiedGruCell
from hanformer.nn.layers.recurrent.kinds import KINDS, make_cell

INPUT, HIDDEN = 5, 12
EXACT = {"atol": 1e-12, "rtol": 0.0}
TORCH = {"simple": nn.RNN, "lstm": nn.LSTM, "gru_reset_after": nn.GRU}


def cell_of(kind: str) -> RecurrentCell:
    return make_cell(kind, INPUT, HIDDEN, chunk_size=3).double()


def inputs(steps: int = 7, batch: int = 2) -> Tensor:
    return torch.randn(steps, batch, INPUT, dtype=torch.float64)


def some_state(cell: RecurrentCell, batch: int = 2) -> tuple[Tensor, ...]:
    return tuple(torch.rand_like(part) for part in cell.first_state(batch))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_scan_is_its_definition_with_its_gradients(kind: str, steps: int) -> None:
    cell, x = cell_of(kind), inputs(steps)
    state = some_state(cell)
    sides = []
    for run in (cell.scan, lambda *given: unroll(cell, *given)):
        leaves = [x.clone().requires_grad_(), *(part.clone().requires_grad_() for part in state)]
        cell.zero_grad()
        outputs, last = run(leaves[0], tuple(leaves[1:]), cell.recurrent.weight)
        (outputs.sin().sum() + sum(part.cos().sum() for part in last)).backward()
        sides.append([outputs, *last, *(leaf.grad for leaf in leaves), *(p.grad for p in cell.parameters())])
    for fast, naive in zip(*sides, strict=True):
        torch.testing.assert_close(fast, naive, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_a_state_is_reading_in_one_go(kind: str) -> None:
    cell, x = cell_of(kind), inputs(9)
    whole, last = cell(x)
    first, between = cell(x[:4])
    second, end = cell(x[4:], between)
    torch.testing.assert_close(torch.cat([first, second]), whole, **EXACT)
    for got, wanted in zip(end, last, strict=True):
        torch.testing.assert_close(got, wanted, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_alone_and_no_steps_are_nothing(kind: str) -> None:
    cell, x = cell_of(kind), inputs(5, 3)
    torch.testing.assert_close(cell(x)[0][:, 1:2], cell(x[:, 1:2])[0], **EXACT)
    state = some_state(cell, 3)
    outputs, same = cell(x[:0], state)
    assert outputs.shape == (0, 3, HIDDEN) and same is state


@pytest.mark.parametrize("kind", TORCH)
def test_torch_computes_the_same_from_the_same_weights(kind: str) -> None:
    cell, x = cell_of(kind), inputs()
    theirs = TORCH[kind](INPUT, HIDDEN).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(cell.input.weight)
        theirs.weight_hh_l0.copy_(cell.recurrent.weight)
        theirs.bias_ih_l0.copy_(cell.input.bias)
        theirs.bias_hh_l0.copy_(
            torch.zeros_like(cell.input.bias) if cell.recurrent.bias is None else cell.recurrent.bias
        )
    torch.testing.assert_close(
        unroll(cell, x, cell.first_state(2), cell.recurrent.weight)[0], theirs(x)[0], **EXACT
    )


def test_both_forms_of_the_gru_agree_where_nothing_is_reset() -> None:
    """With r = 1 the place of the reset makes no difference; torch's z is what ours leaves."""
    ours, torchs, x = cell_of("gru"), cell_of("gru_reset_after"), inputs()
    with torch.no_grad():
        z, _, c = ours.input.weight.chunk(3)
        of_z, _, of_c = ours.recurrent.weight.chunk(3)
        torchs.input.weight.copy_(torch.cat([torch.zeros_like(z), -z, c]))
        torchs.recurrent.weight.copy_(torch.cat([torch.zeros_like(of_z), -of_z, of_c]))
        for cell, reset in ((ours, slice(HIDDEN, 2 * HIDDEN)), (torchs, slice(0, HIDDEN))):
            cell.input.weight[reset], cell.recurrent.weight[reset] = 0, 0
            cell.input.bias.zero_()
            cell.input.bias[reset] = 50.0
        torchs.recurrent.bias.zero_()
    torch.testing.assert_close(ours(x)[0], torchs(x)[0], **EXACT)


def test_the_modified_gru_keeps_its_memory_within_one() -> None:
    cell = ModifiedGruCell(INPUT, HIDDEN).double()
    with torch.no_grad():
        cell.recurrent.weight.mul_(30)
    _, (_, memory) = cell(10 * inputs(50))
    assert memory.abs().max() <= 1


def test_impossible_cells_and_inputs_are_refused() -> None:
    with pytest.raises(UserError, match="kind: expected one of on_lstm, simple, lstm"):
        make_cell("rnn", 2, 3)
    with pytest.raises(UserError, match="sizes of at least 1"):
        make_cell("lstm", 2, 0)
    with pytest.raises(UserError, match=r"expected input \[steps, rows, 5\], got \[7, 2, 4\]"):
        cell_of("lstm")(torch.zeros(7, 2, 4, dtype=torch.float64))
