"""ON-LSTM: the published numbers, the integer picture behind them, and the fused form against autograd."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.layers.recurrent.cell import unroll
from hanformer.nn.layers.recurrent.lstm import LstmCell
from hanformer.nn.layers.recurrent.on_lstm import OnLstmCell
from hanformer.nn.layers.recurrent.stack import RecurrentStack

GOLDEN = Path(__file__).parents[3] / "golden" / "on_lstm.npz"
FORMS = ("paper", "su")


def cell_of(form: str, levels: int = 4, chunk: int = 3, inputs: int = 5) -> OnLstmCell:
    return OnLstmCell(inputs, levels * chunk, chunk, form).double()


def double(values: list[float] | list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def with_logits(cell: OnLstmCell, write: Tensor, forget: Tensor, gates: Tensor) -> Tensor:
    """A projected input [1, rows] that gives these logits: levels of m_i and m_f, then o, g, i, f."""
    return torch.cat([write, forget, gates.flatten()])[None]


def test_the_stack_of_the_authors() -> None:
    """Evaluation of yikangshen/Ordered-Neurons: outputs, states and both distances of three layers."""
    with np.load(GOLDEN) as file:
        golden = {name: torch.from_numpy(file[name]) for name in file.files}
    sizes = golden["sizes"].tolist()
    cells = [OnLstmCell(below, above, int(golden["chunk"])) for below, above in pairwise(sizes)]
    stack = RecurrentStack(cells, weight_drop=float(golden["dropconnect"])).double().eval()
    with torch.no_grad():
        for number, cell in enumerate(stack.layers):
            name = f"weight.cells.{number}"
            cell.input.weight.copy_(golden[f"{name}.ih.0.weight"])
            cell.input.bias.copy_(golden[f"{name}.ih.0.bias"] + golden[f"{name}.hh.bias"])
            cell.recurrent.weight.copy_(golden[f"{name}.hh.weight"])
        output = stack(golden["input"])
        below = golden["input"]
        torch.testing.assert_close(output.outputs, golden["output"], atol=1e-12, rtol=0)
        for number, cell in enumerate(cells):
            raw, (hidden, memory) = output.raw[number], output.states[number]
            torch.testing.assert_close(raw, golden[f"raw_output.{number}"], atol=1e-12, rtol=0)
            torch.testing.assert_close(hidden, golden[f"last_hidden.{number}"], atol=1e-12, rtol=0)
            torch.testing.assert_close(memory, golden[f"last_cell.{number}"].flatten(1), atol=1e-12, rtol=0)
            first = cell.first_state(below.shape[1])
            forget, write = cell.distances(below, raw, first, stack.weight(cell))
            torch.testing.assert_close(forget, golden["distance_forget"][number], atol=1e-12, rtol=0)
            torch.testing.assert_close(write, golden["distance_in"][number], atol=1e-12, rtol=0)
            below = raw


def test_one_step_by_hand() -> None:
    """The worked example of the specification, both forms."""
    forget, write = double([0.5, -1, 2, 0]), double([1, 0, -0.5, 0.25])
    f, i = double([0.9, 0.8, 0.7, 0.6]), double([0.1, 0.2, 0.3, 0.4])
    g, before = double([0.5, -0.5, 0.25, -0.25]), double([[1, -1, 0.5, 0]])
    gates = torch.stack([torch.zeros(4).double(), g.atanh(), i.logit(), f.logit()])
    expected = {
        "paper": ([0.51535739, 0.33706734, 0.22892896, 0.0], [0.37121280, -0.32313826, 0.44192968, 0.0]),
        "su": ([1, 0.51535739, 0.33706734, 0.22892896], [0.57130012, -0.39155190, 0.43719679, -0.02289290]),
    }
    for form, (master, after) in expected.items():
        cell = cell_of(form, 4, 1)
        m_f, m_i = cell.master_gates(torch.cat([write, forget]))
        torch.testing.assert_close(m_f, double([0.15844471, 0.19379850, 0.90389843, 1]), atol=1e-8, rtol=0)
        torch.testing.assert_close(m_i, double(master), atol=1e-8, rtol=0)
        projected = with_logits(cell, write, forget, gates)
        zeros = torch.zeros_like(cell.recurrent.weight)
        _, memory = cell.advance(projected, (torch.zeros(1, 4).double(), before), zeros)
        torch.testing.assert_close(memory[0], double(after), atol=1e-7, rtol=0)
        assert float(1 - m_f.mean()) == pytest.approx(0.43596459, abs=1e-8)
        assert 4 * float(1 - m_f.mean()) + 1 == pytest.approx(2.74385836, abs=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_certain_levels_follow_the_integer_rule(form: str) -> None:
    """One-hot levels d_f and d_i: below both the candidate, above both the past, between them an LSTM or nothing."""
    cell = cell_of(form, 4, 1)
    f, i = torch.rand(4).double(), torch.rand(4).double()
    g, before = torch.rand(4).double() * 2 - 1, torch.rand(1, 4).double()
    gates = torch.stack([torch.zeros(4).double(), g.atanh(), i.logit(), f.logit()])
    for d_f, d_i in product(range(4), range(4)):
        write, forget = torch.full((2, 4), -1e3).double().unbind()
        write[d_i], forget[d_f] = 1e3, 1e3
        projected = with_logits(cell, write, forget, gates)
        state = (torch.zeros(1, 4).double(), before)
        _, memory = cell.advance(projected, state, torch.zeros_like(cell.recurrent.weight))
        for unit in range(4):
            kept = unit >= d_f
            written = unit < d_i if form == "paper" else unit <= d_i
            if kept and written:
                wanted = f[unit] * before[0, unit] + i[unit] * g[unit]
            else:
                wanted = before[0, unit] * kept + g[unit] * written
            assert float(memory[0, unit]) == pytest.approx(float(wanted), abs=1e-12)


def test_one_level_of_su_is_an_lstm() -> None:
    ours, theirs = OnLstmCell(5, 6, 6, "su").double(), LstmCell(5, 6).double()
    with torch.no_grad():
        for mine, other in ((ours.input, theirs.input), (ours.recurrent, theirs.recurrent)):
            o, g, i, f = mine.weight[2:].chunk(4)
            other.weight.copy_(torch.cat([i, f, g, o]))
        o, g, i, f = ours.input.bias[2:].chunk(4)
        theirs.input.bias.copy_(torch.cat([i, f, g, o]))
    x = torch.randn(6, 2, 5).double()
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_the_fused_form(form: str) -> None:
    cell = cell_of(form, 3, 2)
    x = torch.randn(3, 2, 5).double().requires_grad_()
    state = [torch.randn(2, 6).double().requires_grad_() for _ in range(2)]

    def run(x: Tensor, hidden: Tensor, memory: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        outputs, last = cell(x, (hidden, memory), weight)
        return outputs, *last

    assert torch.autograd.gradcheck(run, (x, *state, cell.recurrent.weight))


def test_packed_products_change_nothing_but_the_rounding() -> None:
    """In float32 on a CPU long scans pack their matrix; sizes that are no multiples of anything."""
    cell, x = OnLstmCell(7, 33, 3), torch.randn(12, 5, 7)
    weight = cell.recurrent.weight
    grads = []
    for run in (cell.scan, lambda *given: unroll(cell, *given)):
        cell.zero_grad()
        outputs, _ = run(x, cell.first_state(5), weight)
        outputs.square().sum().backward()
        grads.append([outputs, *(parameter.grad for parameter in cell.parameters())])
    for fast, naive in zip(*grads, strict=True):
        torch.testing.assert_close(fast, naive, atol=1e-4, rtol=1e-4)


def test_bfloat16_stays_near_and_gates_stay_gates() -> None:
    cell, x = OnLstmCell(8, 40, 4), torch.randn(20, 3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near, (_, memory) = cell(x)
        near.float().sum().backward()
    assert memory.dtype == torch.float32 and cell.recurrent.weight.grad is not None
    torch.testing.assert_close(near.float(), cell(x)[0], atol=2e-2, rtol=0)
    forget, write = cell.master_gates(torch.full((1, 20), 60000.0).half())
    assert forget.dtype == torch.float32 and write.isfinite().all()


@given(st.integers(1, 6), st.integers(1, 5), st.floats(0.01, 30), st.sampled_from(FORMS), st.integers(0, 9))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_master_gates_rise_and_fall_between_zero_and_one(
    levels: int, rows: int, scale: float, form: str, seed: int
) -> None:
    torch.manual_seed(seed)
    if form == "paper" and levels == 1:
        levels = 2
    forget, write = OnLstmCell(2, levels, 1, form).master_gates(scale * torch.randn(rows, 2 * levels))
    assert (forget.diff(dim=-1) >= 0).all() and (write.diff(dim=-1) <= 1e-6).all()
    assert (write >= 0).all() and forget.min() >= 0 and max(forget.max(), write.max()) <= 1 + 1e-5
    torch.testing.assert_close(forget[:, -1], torch.ones(rows))
    end = write[:, -1] if form == "paper" else 1 - write[:, 0]
    torch.testing.assert_close(end, torch.zeros(rows), atol=1e-5, rtol=0)


def test_impossible_cells_are_refused() -> None:
    with pytest.raises(UserError, match="divisor of 12 units, got 5"):
        OnLstmCell(3, 12, 5)
    with pytest.raises(UserError, match="form: expected one of paper, su"):
        OnLstmCell(3, 12, 4, "both")
    with pytest.raises(UserError, match="one level in the paper's form writes nothing"):
        OnLstmCell(3, 12, 12)
