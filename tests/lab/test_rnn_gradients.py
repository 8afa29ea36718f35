"""Gradients of recurrent cells: closed forms against autograd, brute force by lag, and the bounds of the post."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.lab.report import Report
from hanformer.lab.rnn_gradients import (
    Options,
    loss_gradients,
    measure_cell,
    measure_model,
    new_cell,
    rnn_gradient_report,
    run,
)
from hanformer.lab.rnn_jacobians import (
    MEMORY_BOUND,
    lag_log_norms,
    lyapunov_exponents,
    path_terms,
    whole_jacobians,
)
from hanformer.models.recurrent_lm import RecurrentConfig, RecurrentLm
from hanformer.models.recurrent_store import save_recurrent
from hanformer.nn.layers.recurrent.cell import RecurrentCell
from hanformer.nn.layers.recurrent.kinds import KINDS, make_cell
from hanformer.parsing.words import Words

CLOSED = ("simple", "lstm", "gru", "gru_reset_after", "gru_modified")
EXACT = {"atol": 1e-10, "rtol": 0.0}


def cell_of(kind: str, size: int = 6) -> RecurrentCell:
    cell = make_cell(kind, 3, size, chunk_size=2).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(2)
    return cell


def steps(cell: RecurrentCell, x: Tensor) -> list[tuple[Tensor, ...]]:
    """States in the graph of each other, from zeros that want gradients; copies, so that h and c are two things."""
    states = [tuple(part.requires_grad_() for part in cell.first_state(1))]
    for projected in cell.input(x[:, None]):
        new = cell.advance(projected, states[-1], cell.recurrent.weight)
        states.append(tuple(part.clone() for part in new))
    return states


def brute_force(ends: tuple[Tensor, ...], starts: tuple[Tensor, ...]) -> Tensor:
    rows = []
    for value in torch.cat(ends, dim=1)[0]:
        found = torch.autograd.grad(
            value, starts, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        rows.append(torch.cat(found, dim=1)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_jacobians_and_their_products_are_what_backpropagation_finds(kind: str) -> None:
    cell, x = cell_of(kind), torch.randn(6, 3).double()
    jacobians, states = whole_jacobians(cell, x, cell.recurrent.weight.detach()), steps(cell, x)
    for step in range(6):
        torch.testing.assert_close(jacobians[step], brute_force(states[step + 1], states[step]), **EXACT)
    by_lag = lag_log_norms(jacobians)
    for lag in (1, 3, 6):
        product = brute_force(states[6], states[6 - lag])
        assert float(by_lag[lag - 1]) == pytest.approx(
            float(torch.linalg.matrix_norm(product, 2).log()), abs=1e-9
        )


@pytest.mark.parametrize("kind", CLOSED)
def test_the_closed_forms(kind: str) -> None:
    """Path Jacobians from the blocks of the whole one: d(memory) with the output gate of the step before held."""
    cell, x = cell_of(kind), torch.randn(5, 3).double()
    weight, size = cell.recurrent.weight.detach(), cell.hidden_size
    jacobians, terms = whole_jacobians(cell, x, weight), path_terms(cell, x, weight)
    states = [tuple(part[0].detach() for part in state) for state in steps(cell, x)]
    for step, named in enumerate(terms):
        total, whole = sum(named.values()), jacobians[step]
        if cell.parts == 2:
            hidden, memory = states[step]
            shown = torch.where(
                memory != 0, hidden / memory.where(memory != 0, torch.ones(())), torch.zeros(())
            )
            if kind == "lstm":
                ratio = hidden / memory.tanh().where(memory != 0, torch.ones(()))
                shown = ratio * (1 - memory.tanh() ** 2)
            whole = whole[size:, size:] + whole[size:, :size] * shown
        torch.testing.assert_close(total, whole, **EXACT)
    assert next(iter(terms[0])) in ("recurrent", "forget", "keep")


def test_the_bounds_of_the_post() -> None:
    """|c (1 - tanh² c)| and, over all u, |(1 - tanh²(u h)) u| stay below 0.447743 and 0.447743 / |h|."""
    c = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    values = (c * (1 - c.tanh() ** 2)).abs()
    assert float(values.max()) == pytest.approx(MEMORY_BOUND, abs=1e-6)
    assert float(c[values.argmax()].abs()) == pytest.approx(0.771702, abs=1e-4)
    for hidden in (0.1, 0.5, 1.0):
        u = torch.linspace(-100, 100, 400_001, dtype=torch.float64)
        scalar = ((1 - (u * hidden).tanh() ** 2) * u).abs()
        assert float(scalar.max()) == pytest.approx(MEMORY_BOUND / hidden, rel=1e-5)


def test_an_lstm_that_forgets_nothing_hands_gradients_on_unchanged() -> None:
    cell = cell_of("lstm", 4)
    with torch.no_grad():
        cell.recurrent.weight.zero_()
        cell.input.bias.copy_(torch.tensor([-60.0, 60.0, 0.0, 0.0]).repeat_interleave(4))
        cell.input.weight.zero_()
    terms = path_terms(cell, torch.zeros(5, 3).double(), cell.recurrent.weight)
    for named in terms:
        torch.testing.assert_close(sum(named.values()), torch.eye(4).double(), **EXACT)
    torch.testing.assert_close(
        lag_log_norms(torch.stack([sum(named.values()) for named in terms])), torch.zeros(5).double(), **EXACT
    )


@pytest.mark.parametrize(("gain", "verdict"), [(0.8, "vanishing"), (1.0, "steady"), (1.1, "exploding")])
def test_orthogonal_matrices_at_rest_grow_by_their_gain(gain: float, verdict: str) -> None:
    """A simple network near h = 0 is its recurrent matrix; 40 steps of 1e-30 do not change that."""
    measured = measure_cell("simple", new_cell("simple", 8, gain), torch.full((40, 8), 1e-30))
    assert measured.growth == pytest.approx(gain, rel=1e-5) and measured.verdict == verdict
    assert measured.radii.tolist() == pytest.approx([gain] * 40, rel=1e-5)
    assert float(measured.by_lag[-1]) == pytest.approx(40 * math.log(gain), abs=1e-3)
    assert measured.exponents.tolist() == pytest.approx([math.log(gain)] * 8, abs=1e-5)
    assert measured.shares == {"recurrent": 1.0} and set(measured.arrays()) >= {"norms", "by_lag"}


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_few_steps_have_a_growth_too(steps: int) -> None:
    measured = measure_cell("simple", new_cell("simple", 8, 0.5), torch.full((steps, 8), 1e-30))
    assert measured.growth == pytest.approx(0.5, rel=1e-5) and measured.verdict == "vanishing"


def test_long_products_neither_overflow_nor_vanish_in_logarithms() -> None:
    jacobians = torch.diag(torch.tensor([3.0, 1e-3]).double()).expand(900, 2, 2)
    assert float(lag_log_norms(jacobians)[-1]) == pytest.approx(900 * math.log(3), rel=1e-12)
    assert lyapunov_exponents(jacobians).tolist() == pytest.approx([math.log(3), math.log(1e-3)])
    dead = torch.zeros(3, 2, 2).double()
    assert lag_log_norms(dead).isneginf().all()


def small_model(kind: str = "on_lstm") -> RecurrentLm:
    torch.manual_seed(4)
    return RecurrentLm(RecurrentConfig(20, 6, 6, 2, kind, 2)).double().eval()


def loss_after_a_push(
    model: RecurrentLm, ids: list[int], place: tuple[int, int, int], unit: int, push: float
) -> float:
    """The loss of the last id where one number of a state (step, layer, part) is pushed as soon as it is there."""
    stack, step = model.stack, place[0]
    states = list(stack.first_states(1))
    x = torch.empty(0)
    for number, word in enumerate(ids[:-1]):
        x = model.embedding(torch.tensor([word]))
        for layer, cell in enumerate(stack.layers):
            state = [*cell.advance(cell.input(x), states[layer], stack.weight(cell))]
            if (number, layer) == (step, place[1]):
                state[place[2]][0, unit] += push
            states[layer], x = tuple(state), state[0]
    return float(-model.output(x).log_softmax(-1)[0, ids[-1]])


@pytest.mark.parametrize("kind", ["on_lstm", "lstm"])
@torch.no_grad()
def test_the_gradient_of_the_last_loss_by_lag(kind: str) -> None:
    """Against differences of the loss when a number of a state is pushed."""
    model, ids = small_model(kind), [3, 1, 4, 1, 5, 9]
    with torch.enable_grad():
        found = loss_gradients(model, ids)
    assert found.shape == (2, 5)
    for lag, layer in ((0, 0), (0, 1), (3, 0), (4, 1)):
        square = 0.0
        for part in range(2):
            for unit in range(6):
                place = (4 - lag, layer, part)
                up, down = (loss_after_a_push(model, ids, place, unit, push) for push in (1e-5, -1e-5))
                square += ((up - down) / 2e-5) ** 2
        assert float(found[layer, lag]) == pytest.approx(math.sqrt(square), rel=1e-5)


def test_a_model_is_measured_layer_by_layer_on_what_each_layer_reads() -> None:
    model, ids = small_model("lstm"), [3, 1, 4, 1, 5]
    layers = measure_model(model, ids)
    output = model.read(torch.tensor(ids)[:, None])
    second = measure_cell(
        "layer 1", model.stack.layers[1], output.raw[0][:, 0], model.stack.weight(model.stack.layers[1])
    )
    torch.testing.assert_close(layers[1].by_lag, second.by_lag)
    assert [layer.name for layer in layers] == ["layer 0", "layer 1"] and len(layers[0].shares) == 4


def test_the_experiment_ends_in_a_table_and_a_figure(tmp_path: Path) -> None:
    report = run(tmp_path, Options(kinds=("simple", "lstm"), size=6, steps=12))
    assert isinstance(report, Report) and len(report.tables[0].rows) == 2 and len(report.pictures) == 1
    assert "simple" in report.text()
    words = Words.learn(["the cat sat on a mat"])
    model = RecurrentLm(replace(small_model().config, vocabulary_size=len(words)))
    save_recurrent(model, tmp_path)
    words.save(tmp_path)
    report = run(tmp_path, Options(run=str(tmp_path), text="the cat sat"))
    assert [picture.name for picture in report.pictures] == ["lags", "losses"]
    assert rnn_gradient_report(measure_model(model, [1, 2, 3])).tables[0].rows[1][0] == "layer 1"


def test_what_cannot_be_measured_is_refused() -> None:
    for changes, message in (
        ({"kinds": ("rnn",)}, "kinds: expected some of on_lstm"),
        ({"size": 1}, "at least 2"),
        ({"gain": 1e300}, "gain: expected a factor from 0 to 1e.06, got 1e.300"),
        ({"run": "runs/x"}, "give run and text together"),
    ):
        with pytest.raises(UserError, match=message):
            Options(**changes)
    with pytest.raises(UserError, match="at least two steps"):
        measure_cell("simple", cell_of("simple"), torch.zeros(1, 3))
    with pytest.raises(UserError, match="no closed form for OnLstmCell"):
        path_terms(cell_of("on_lstm"), torch.zeros(2, 3).double(), torch.zeros(1))
    with pytest.raises(UserError, match="at least three words"):
        loss_gradients(small_model(), [1, 2])
