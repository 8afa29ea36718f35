"""Gradients of recurrent cells: closed forms against autograd, brute force by lag, and the bounds of the post."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.errors import UserError
from hanformer.lab.report import Report, write_report
from hanformer.lab.rnn_gradients import Options, new_cell, rnn_gradient_report, run
from hanformer.lab.rnn_jacobians import MEMORY_BOUND, lag_log_norms, path_terms, whole_jacobians
from hanformer.lab.rnn_measured import loss_gradients, measure_cell, measure_model, written_units
from hanformer.models.recurrent_lm import RecurrentConfig, RecurrentLm
from hanformer.models.recurrent_store import save_recurrent
from hanformer.nn.layers.recurrent.cell import RecurrentCell
from hanformer.nn.layers.recurrent.kinds import KINDS, make_cell
from hanformer.parsing.parser import load_parser
from hanformer.parsing.training import TASK
from hanformer.parsing.words import Words
from hanformer.train.runs import RunDescription, write_description

CLOSED = ("simple", "lstm", "gru", "gru_reset_after", "gru_modified")
EXACT = {"atol": 1e-10, "rtol": 0.0}


def cell_of(kind: str, size: int = 6, form: str = "paper") -> RecurrentCell:
    cell = make_cell(kind, 3, size, chunk_size=2, form=form).double()
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
    for exponent in (measured.largest_exponent, measured.mean_exponent):
        assert exponent == pytest.approx(math.log(gain), abs=1e-5)
    assert measured.shares == {"recurrent": 1.0}


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_few_steps_have_a_growth_too(steps: int) -> None:
    measured = measure_cell("simple", new_cell("simple", 8, 0.5), torch.full((steps, 8), 1e-30))
    assert measured.growth == pytest.approx(0.5, rel=1e-5) and measured.verdict == "vanishing"


def test_long_products_neither_overflow_nor_vanish_in_logarithms() -> None:
    jacobians = torch.diag(torch.tensor([3.0, 1e-3]).double()).expand(900, 2, 2)
    assert float(lag_log_norms(jacobians)[-1]) == pytest.approx(900 * math.log(3), rel=1e-12)
    dead = torch.zeros(3, 2, 2).double()
    assert lag_log_norms(dead).isneginf().all()


@pytest.mark.parametrize("length", [2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "form"), [("lstm", ""), ("gru", ""), ("on_lstm", "su"), ("on_lstm", "paper")]
)
def test_exponents_are_those_of_the_product_of_few_steps(kind: str, form: str, length: int) -> None:
    """Beside the singular values of the product that backpropagation through all steps gives."""
    cell, x = cell_of(kind, form=form or "paper"), torch.randn(length, 3).double()
    states, count = steps(cell, x), written_units(cell)
    numbers = [part * 6 + unit for part in range(cell.parts) for unit in range(count)]
    product = brute_force(states[-1], states[0])[numbers][:, numbers]
    logs = torch.linalg.svdvals(product).log() / length
    measured = measure_cell(kind, cell, x)
    assert measured.largest_exponent == pytest.approx(float(logs[0]), abs=1e-9)
    assert measured.mean_exponent == pytest.approx(float(logs.mean()), abs=1e-5)


def gradients_without(cell: RecurrentCell, x: Tensor, number: int | None) -> list[Tensor]:
    """Of a sum of all outputs in the inputs and parameters, where nothing flows through one number of the states."""
    x = x.clone().requires_grad_()
    weights = torch.linspace(1, 2, 6 * len(x)).double().view(len(x), 1, 6)
    flat, total = torch.cat(cell.first_state(1), dim=1), torch.zeros(())
    for projected, weight in zip(cell.input(x[:, None]), weights, strict=True):
        state = cell.advance(projected, flat.chunk(cell.parts, dim=1), cell.recurrent.weight)
        total, flat = total + (weight * state[0]).sum(), torch.cat(state, dim=1)
        if number is not None:
            flat = torch.cat(
                [flat[:, :number], flat[:, number : number + 1].detach(), flat[:, number + 1 :]], 1
            )
    return list(torch.autograd.grad(total, [x, *cell.parameters()]))


@pytest.mark.parametrize(("form", "written"), [("paper", 4), ("su", 6)])
def test_what_is_left_out_is_what_no_gradient_flows_through(form: str, written: int) -> None:
    """Cut out of the way back, any other number of the state changes the gradient of the outputs."""
    cell, x = cell_of("on_lstm", form=form), torch.randn(5, 3).double()
    whole = gradients_without(cell, x, None)
    idle = {
        number
        for number in range(12)
        if all(
            torch.allclose(one, other, **EXACT)
            for one, other in zip(gradients_without(cell, x, number), whole, strict=True)
        )
    }
    assert written_units(cell) == written
    assert idle == {part * 6 + unit for part in range(2) for unit in range(written, 6)}
    assert all((part[:, list(range(written, 6))] == 0).all() for state in steps(cell, x) for part in state)
    measured = measure_cell("on_lstm", cell, x)
    assert (measured.numbers, measured.left_out) == (2 * written, 12 - 2 * written)


def test_a_cell_in_the_form_of_the_paper_can_forget() -> None:
    """Its highest level, which is only ever kept, would say that every gradient stays."""
    cell = make_cell("on_lstm", 3, 8, chunk_size=2)
    x = torch.randn(40, 3)
    measured = measure_cell("on_lstm", cell, x)
    whole = lag_log_norms(whole_jacobians(cell.double(), x.double(), cell.recurrent.weight))
    assert measured.verdict == "vanishing" and measured.largest_exponent < -0.05
    assert float(measured.radii.max()) < 1 and float(whole[-1]) > -1e-9


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
    """Against differences of the loss when a number of a state is pushed that is ever written."""
    model, ids = small_model(kind), [3, 1, 4, 1, 5, 9]
    with torch.enable_grad():
        found = loss_gradients(model, ids)
    assert found.shape == (2, 5)
    for lag, layer in ((0, 0), (0, 1), (3, 0), (4, 1)):
        square = 0.0
        for part in range(2):
            for unit in range(written_units(model.stack.layers[layer])):
                place = (4 - lag, layer, part)
                up, down = (loss_after_a_push(model, ids, place, unit, push) for push in (1e-5, -1e-5))
                square += ((up - down) / 2e-5) ** 2
        assert float(found[layer, lag]) == pytest.approx(math.sqrt(square), rel=1e-5)


def test_gradients_that_all_but_vanish_are_numbers_still() -> None:
    """150 words through a simple network that contracts to a tenth and less: beside the chain rule, word by word."""
    model = RecurrentLm(RecurrentConfig(20, 6, 6, 1, "simple", 2, weight_drop=0.0))
    (cell,) = model.stack.layers
    with torch.no_grad():
        nn.init.orthogonal_(cell.recurrent.weight, 0.02)
    model.train()
    ids = torch.arange(151) % 20
    found = loss_gradients(model, ids.tolist())
    assert model.training and next(model.parameters()).dtype == torch.float32
    x, weight = model.embedding.table.weight.detach().double()[ids[:-1]], cell.recurrent.weight.double()
    with torch.no_grad():
        states = [torch.zeros(6).double()]
        for projected in cell.double().input(x):
            states.append(torch.tanh(projected + weight @ states[-1]))
        logits = model.double().output(states[-1])
        gradient = (logits.softmax(0) - functional.one_hot(ids[-1], 20)) @ model.output.weight
        log = torch.zeros(()).double()
        for lag, state in enumerate(reversed(states[1:])):
            size = gradient.norm()
            log, gradient = log + size.log(), gradient / size
            assert float(found[0, lag].log()) == pytest.approx(float(log), abs=1e-9)
            gradient = ((1 - state**2) * gradient) @ weight
    assert 1e-308 < float(found.min()) < 1e-200


def test_a_model_is_measured_layer_by_layer_on_what_each_layer_reads() -> None:
    model, ids = small_model("lstm"), [3, 1, 4, 1, 5]
    layers = measure_model(model, ids)
    output = model.read(torch.tensor(ids)[:, None])
    second = measure_cell(
        "layer 1", model.stack.layers[1], output.raw[0][:, 0], model.stack.weight(model.stack.layers[1])
    )
    torch.testing.assert_close(layers[1].by_lag, second.by_lag)
    assert [layer.name for layer in layers] == ["layer 0, lstm", "layer 1, lstm"]
    assert len(layers[0].shares) == 4
    assert measure_model(small_model(), ids)[1].name == "layer 1, on_lstm (paper)"


def test_new_cells_end_in_tables_and_a_figure(tmp_path: Path) -> None:
    report = run(tmp_path, Options(kinds=("simple", "on_lstm"), size=6, steps=12, gain=0.5, seed=3))
    assert isinstance(report, Report) and [picture.name for picture in report.pictures] == ["lags"]
    cells, lags = report.tables
    assert [row[0] for row in cells.rows] == [row[0] for row in lags.rows] == ["simple", "on_lstm (su)"]
    assert lags.head == ("lag", "1", "2", "5", "10")
    told = report.text()
    for part in ("cells of 6 units on 12 steps", "times 0.5", "seed 3", "宽 6", "随机种子 3", "simple：消失"):
        assert part in told
    assert "left out" not in told


def test_both_the_norm_of_the_product_and_the_product_of_norms_are_told() -> None:
    cell = measure_cell("lstm", cell_of("lstm"), torch.randn(12, 3))
    report = rnn_gradient_report([cell])
    told = next(line for line in report.findings if line.startswith("lstm: "))
    found = [float(number) for number in re.findall(r"[-+.0-9e]*\d", told)]
    assert found == pytest.approx([12, math.exp(float(cell.by_lag[-1])), float(cell.norms.prod())], rel=5e-3)
    lags = {
        lag: float(value)
        for lag, value in zip(*(report.tables[1].head, report.tables[1].rows[0]), strict=True)
        if lag != "lag"
    }
    assert lags == pytest.approx(
        {str(lag): math.exp(float(cell.by_lag[lag - 1])) for lag in (1, 2, 5, 10)}, rel=5e-3
    )


@pytest.mark.parametrize("gain", [0.0, 1e5])
def test_norms_beyond_the_numbers_are_told_and_drawn(gain: float, tmp_path: Path) -> None:
    cell = measure_cell("simple", new_cell("simple", 4, gain), torch.zeros(130, 4))
    report = rnn_gradient_report([cell], {"simple": torch.tensor([1.0, 0.0]).double()})
    assert report.tables[1].rows[0][-1] == ("10^500.0" if gain else "0")
    assert report.tables[2].rows == (("simple", "1", "0"),)
    write_report(tmp_path, report)


def saved_run(folder: Path) -> None:
    words = Words.learn(["the cat sat on a mat"])
    write_description(folder, RunDescription(TASK, "text", {}))
    save_recurrent(RecurrentLm(replace(small_model().config, vocabulary_size=len(words))), folder / "best")
    words.save(folder / "best")


def test_a_run_is_measured_on_a_text(tmp_path: Path) -> None:
    saved_run(tmp_path)
    report = run(tmp_path, Options(run=str(tmp_path), text="the cat sat dog"))
    assert [picture.name for picture in report.pictures] == ["lags", "losses"]
    names = ["layer 0, on_lstm (paper)", "layer 1, on_lstm (paper)"]
    assert [[row[0] for row in table.rows] for table in report.tables] == [names] * 3
    assert report.tables[2].head == ("lag", "0", "1", "2")
    told = report.text()
    for part in (
        "4 words, 1 of them (25.0%) unknown",
        "the / cat / sat / dog",
        "其中 1 个（25.0%）",
        "left out",
        "不计入",
    ):
        assert part in told
    assert report.tables[0].rows[0][-1] == "8 of 12"
    long = run(tmp_path, Options(run=str(tmp_path), text="the cat sat on a mat " * 20))
    assert "120 words" in long.findings[0] and len(long.findings[0].partition(": ")[2]) < 130


@pytest.mark.parametrize("text", ["白 日", " "])
def test_a_text_without_known_words_is_refused_as_for_trees(tmp_path: Path, text: str) -> None:
    saved_run(tmp_path)
    with pytest.raises(UserError) as of_trees:
        load_parser(tmp_path).parse(text)
    with pytest.raises(UserError) as found:
        run(tmp_path, Options(run=str(tmp_path), text=text))
    assert str(found.value) == str(of_trees.value)


def test_a_file_is_no_sentence(tmp_path: Path) -> None:
    saved_run(tmp_path)
    (tmp_path / "text.txt").write_text("the cat", encoding="utf-8")
    with pytest.raises(UserError, match="text: .*is a file, and the sentence itself is expected"):
        run(tmp_path, Options(run=str(tmp_path), text=str(tmp_path / "text.txt")))


def test_a_run_that_is_not_there_is_refused_as_for_trees(tmp_path: Path) -> None:
    with pytest.raises(UserError) as of_trees:
        load_parser(tmp_path / "none")
    with pytest.raises(UserError) as found:
        run(tmp_path, Options(run=str(tmp_path / "none"), text="the cat"))
    assert str(found.value) == str(of_trees.value)


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
