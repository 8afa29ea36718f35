"""The state of decoding: what it stores, what it refuses. That it decodes right is the harness's matter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.state import Opening
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Causal
from tests.harness import EXACT, UncachedState, random_model, random_rows, tiny_config


def decoder(**changes: object) -> Transformer:
    return random_model(tiny_config(**{"application": "lm", "layers": 1, **changes}))


def start(model: Transformer) -> tuple[UncachedState, KeyValueCache]:
    prompts = random_rows(model.config, (3, 1, 2))
    return UncachedState(model, prompts), model.prompt(prompts.ids, prompts.segments)[1]


def tokens(rows: int, count: int) -> Tensor:
    return torch.randint(23, (rows, count))


actions = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(1, 3)),
        st.tuples(st.just("select"), st.lists(st.integers(0, 99), min_size=1, max_size=6)),
        st.tuples(st.just("truncate"), st.integers(0, 99)),
    ),
    max_size=7,
)


@settings(max_examples=15)
@given(actions, st.sampled_from(["lm", "unilm"]))
def test_any_order_of_actions(actions: list[tuple[str, int | list[int]]], application: str) -> None:
    torch.manual_seed(0)
    model = decoder(application=application, position="rotary")
    uncached, state = start(model)
    for action, argument in [*actions, ("step", 1)]:
        if action == "step":
            new = tokens(state.rows, argument)
            torch.testing.assert_close(model.step(new, state), uncached.step(new), **EXACT)
        elif action == "select":
            rows = [row % state.rows for row in argument]
            state.select(torch.tensor(rows))
            uncached.select(rows)
        else:
            state.truncate(argument % (state.length + 1))
            uncached.truncate(argument % (uncached.length + 1))
    assert state.length == uncached.length and state.rows == len(uncached.rows.ids)


def test_long_decoding_outgrows_the_first_buffer() -> None:
    model = decoder(position="sinusoidal")
    uncached, state = start(model)
    for count in (15, 1, 1, 20):
        new = tokens(3, count)
        torch.testing.assert_close(model.step(new, state), uncached.step(new), **EXACT)
    assert state.length == 37


def test_prompts_are_stored_once_for_all_rows() -> None:
    model = decoder()
    state = start(model)[1]
    before = state._prompt[0][0].data_ptr()
    state.select(torch.arange(3).repeat_interleave(4))
    assert state.rows == 12 and state._prompt[0][0].data_ptr() == before and len(state._prompt[0][0]) == 3


def test_prompts_without_rows_are_let_go() -> None:
    model = decoder()
    state = start(model)[1]
    state.select(torch.tensor([2, 2]))
    assert len(state._prompt[0][0]) == 1 and state.prompt_of_row.tolist() == [0, 0]


def test_no_rows_left() -> None:
    model = decoder()
    state = start(model)[1]
    model.step(tokens(3, 1), state)
    state.select(torch.zeros(0, dtype=torch.int64))
    assert state.rows == 0 and model.step(tokens(0, 1), state).shape == (0, 1, 23)


def test_a_refused_step_leaves_the_state_as_it_was() -> None:
    model = decoder()
    uncached, state = start(model)
    model.step(new := tokens(3, 2), state)
    uncached.step(new)
    with pytest.raises(UserError, match="token ids"):
        model.step(torch.full((3, 1), 23), state)
    with pytest.raises(UserError, match="positions"):
        model.step(tokens(3, 40), state)
    assert state.length == 2
    new = tokens(3, 1)
    torch.testing.assert_close(model.step(new, state), uncached.step(new), **EXACT)


def test_states_are_independent() -> None:
    model = decoder()
    (uncached, state), (_, other) = start(model), start(model)
    model.step(tokens(3, 2), other)
    other.select(torch.tensor([1]))
    new = tokens(3, 1)
    torch.testing.assert_close(model.step(new, state), uncached.step(new), **EXACT)


def test_decoding_keeps_no_graph() -> None:
    model = decoder()
    logits, state = model.prompt([[1, 2]])
    assert not logits.requires_grad and not model.step(tokens(1, 1), state).requires_grad


@pytest.mark.parametrize("rows", [[3], [-1], [0, 1, 2, 7]])
def test_rows_that_do_not_exist(rows: list[int]) -> None:
    state = start(decoder())[1]
    with pytest.raises(UserError, match="select: expected row numbers below 3"):
        state.select(torch.tensor(rows))


def test_rows_must_be_a_list() -> None:
    with pytest.raises(UserError, match="select"):
        start(decoder())[1].select(torch.zeros(1, 1, dtype=torch.int64))


@pytest.mark.parametrize("length", [-1, 3])
def test_lengths_that_do_not_exist(length: int) -> None:
    model = decoder()
    state = start(model)[1]
    model.step(tokens(3, 2), state)
    with pytest.raises(UserError, match="truncate: expected a length from 0 to 2"):
        state.truncate(length)


@pytest.mark.parametrize("shape", [(2, 1), (3,), (3, 0)])
def test_steps_of_another_shape(shape: tuple[int, ...]) -> None:
    model = decoder()
    with pytest.raises(UserError, match="expected"):
        model.step(torch.ones(shape, dtype=torch.int64), start(model)[1])


@pytest.mark.parametrize("rows", [[], [[]], [[1, 2], []]])
def test_prompts_without_tokens(rows: list[list[int]]) -> None:
    with pytest.raises(UserError, match="every prompt needs at least one token"):
        decoder().prompt(rows)


def test_segments_of_other_lengths() -> None:
    with pytest.raises(UserError, match="one entry for every token"):
        decoder().prompt([[1, 2], [3]], [[0], [0, 1]])


def test_an_encoder_does_not_generate() -> None:
    with pytest.raises(UserError, match="an encoder does not generate"):
        random_model(tiny_config()).prompt([[1]])


def test_a_model_in_training_mode_does_not_generate() -> None:
    model = decoder(dropout=0.1)
    state = start(model)[1]
    model.train()
    with pytest.raises(UserError, match=r"call model.eval\(\)"):
        model.prompt([[1]])
    with pytest.raises(UserError, match=r"call model.eval\(\)"):
        model.step(tokens(3, 1), state)
    assert state.length == 0 and model.eval().step(tokens(3, 1), state).shape == (3, 1, 23)


def test_appended_tokens_go_on_counting() -> None:
    prompts = Layout.of((2, 1), positions=torch.tensor([5, 6, 9]))
    state = KeyValueCache(Opening(Causal(), prompts, layers=1, segment=1))
    layout = state.begin(2)
    assert layout.lengths == (2, 2) and layout.segments.tolist() == [1, 1, 1, 1]
    assert layout.positions.tolist() == [7, 8, 10, 11] and state.layout is layout
