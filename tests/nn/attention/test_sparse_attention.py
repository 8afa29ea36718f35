"""Sparse mechanisms in whole models, and the rolling window that decodes local attention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.config import ModelConfig
from hanformer.decode import Beam, Greedy, Rule, generate
from hanformer.errors import UserError
from hanformer.mechanisms import Atrous, Local, Mechanism, Sparse
from hanformer.models import Transformer
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.rolling import RollingCache
from hanformer.nn.functional import cutting
from tests.harness import (
    EXACT,
    UncachedState,
    check_model,
    random_model,
    random_rows,
    run_packed,
    tiny_config,
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows are cut as long ones are."""
    monkeypatch.setattr(cutting, "SHORT", 0)
    monkeypatch.setattr(cutting, "BLOCKS", (2, 4))


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
@pytest.mark.parametrize("attention", [Local(2), Atrous(2), Sparse(3, 1)], ids=repr)
def test_every_application(attention: Mechanism, application: str) -> None:
    check_model(tiny_config(application=application, attention=attention))


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": Local(0), "application": "lm"},
        {"attention": Local(1), "application": "lm", "position": "relative_sinusoidal"},
        {"attention": Sparse(2), "application": "lm", "position": "relative_sinusoidal"},
        {"attention": Sparse(3, 1), "position": "relative_buckets"},
        {"attention": Atrous(3), "application": "unilm", "position": "relative_buckets"},
        {"attention": Sparse(3), "application": "lm", "position": "alibi"},
        {"attention": Local(3), "application": "unilm", "position": "rotary", "key_value_heads": 1},
        {"attention": Sparse(3, 1), "application": "unilm", "residual_attention": True},
        {"attention": Local(2), "application": "lm", "residual_attention": True},
        {"attention": Sparse(3, 1), "attention_key_size": 6, "attention_head_size": 5},
    ],
    ids=str,
)
def test_other_words(changes: dict[str, object]) -> None:
    check_model(tiny_config(**changes))


def test_records_restrict_and_travel() -> None:
    config = tiny_config(attention={"name": "sparse", "rate": 4, "radius": 2})
    assert config.attention == Sparse(4, 2) and ModelConfig.from_dict(config.to_dict()) == config
    assert tiny_config(attention="local").attention == Local(128)
    for wrong in (
        {"name": "local", "radius": -1},
        {"name": "atrous", "rate": 0},
        {"name": "sparse", "rate": 0},
    ):
        with pytest.raises(UserError, match="expected a whole number"):
            tiny_config(attention=wrong)


def test_returned_weights_are_those_of_one_softmax() -> None:
    config = tiny_config(attention=Sparse(3, 1))
    model = random_model(config)
    tokens = torch.randint(1, 23, (2, 14))
    output = model(tokens, attention_scores=True)
    away = torch.arange(14)[None] - torch.arange(14)[:, None]
    for weights in output.attention_scores:
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
        assert not weights[..., (away.abs() > 1) & (away % 3 != 0)].any()
    torch.testing.assert_close(output.sequence, model(tokens).sequence, **EXACT)


def test_dropout_on_weights_trains() -> None:
    model = random_model(tiny_config(attention=Sparse(3), attention_dropout=0.3)).train()
    model(torch.randint(1, 23, (2, 11))).sequence.square().sum().backward()
    gradient = model.stack.blocks[0].attention.key.weight.grad
    assert gradient is not None and gradient.isfinite().all() and gradient.any()


# ------------------------------------------------------------------------------------------ decoding
def decoder(radius: int = 3, **changes: object) -> Transformer:
    config = {"application": "lm", "position": "rotary", "layers": 2, "max_positions": 400, **changes}
    return random_model(tiny_config(attention=Local(radius), **config))


def test_only_local_attention_forgets() -> None:
    for attention, kind in ((Local(3), RollingCache), (Atrous(3), KeyValueCache), (Sparse(3), KeyValueCache)):
        model = random_model(tiny_config(application="lm", attention=attention))
        assert type(model.prompt([[1, 2]])[1]) is kind


@pytest.mark.parametrize("application", ["lm", "unilm"])
@pytest.mark.parametrize("radius", [0, 1, 5, 40])
def test_long_decoding_equals_no_cache(radius: int, application: str) -> None:
    model = decoder(radius, application=application)
    prompts = random_rows(model.config, (3, 1, 9))
    uncached = UncachedState(model, prompts)
    logits, state = model.prompt(prompts.ids, prompts.segments)
    torch.testing.assert_close(logits, uncached.logits(1)[:, 0], **EXACT)
    for count in (1, 2, 20, 1, 30, 1, 1, 40, 1):
        new = torch.randint(23, (3, count))
        torch.testing.assert_close(model.step(new, state), uncached.step(new), **EXACT)
    assert state.earliest <= state.length - 1


actions = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(1, 25)),
        st.tuples(st.just("select"), st.lists(st.integers(0, 99), min_size=1, max_size=5)),
        st.tuples(st.just("truncate"), st.integers(0, 99)),
    ),
    max_size=8,
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(actions, st.integers(0, 6))
def test_any_order_of_actions(actions: list[tuple[str, int | list[int]]], radius: int) -> None:
    torch.manual_seed(0)
    model = decoder(radius, layers=1)
    prompts = random_rows(model.config, (3, 1, 8))
    uncached, state = UncachedState(model, prompts), model.prompt(prompts.ids, prompts.segments)[1]
    for action, argument in [*actions, ("step", 1)]:
        if action == "step":
            new = torch.randint(23, (state.rows, argument))
            torch.testing.assert_close(model.step(new, state), uncached.step(new), **EXACT)
        elif action == "select":
            rows = [row % state.rows for row in argument]
            state.select(torch.tensor(rows))
            uncached.select(rows)
        else:
            length = state.earliest + argument % (state.length - state.earliest + 1)
            state.truncate(length)
            uncached.truncate(length)


def test_the_state_is_bounded_and_says_its_size() -> None:
    model = decoder(8)
    state = model.prompt(random_rows(model.config, (50, 60)).ids)[1]
    per_token = 2 * 2 * 16 * 8  # layers, keys and values, channels, bytes of float64
    # Two rows, and no more than the window of each prompt.
    assert state.bytes() == 2 * 8 * per_token
    sizes = []
    for _ in range(200):
        model.step(torch.randint(23, (2, 1)), state)
        sizes.append(state.bytes())
    assert max(sizes) <= 2 * (2 * 8 + 16 + 1) * per_token
    assert max(sizes[150:]) <= max(sizes[:100])
    # Rows have a reserve; the prompts are gone, and no view keeps them.
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in state.tensors()}
    assert sum(storage.nbytes() for storage in storages.values()) <= 2 * (8 + 16 + 1) * per_token


def test_a_full_cache_keeps_growing() -> None:
    model = random_model(tiny_config(application="lm", attention=Sparse(3), max_positions=400))
    state = model.prompt([[1, 2, 3]])[1]
    before = state.bytes()
    model.step(torch.randint(23, (1, 10)), state)
    assert state.bytes() == before // 3 * 13


def test_what_is_forgotten_cannot_come_back() -> None:
    model = decoder(2)
    state = model.prompt([[1, 2, 3]])[1]
    for _ in range(60):
        model.step(torch.ones(1, 1, dtype=torch.int64), state)
    with pytest.raises(UserError, match="truncate: .* can go back to length"):
        state.truncate(0)
    state.truncate(59)
    model.step(torch.ones(1, 1, dtype=torch.int64), state)


@pytest.mark.parametrize("attention", [Local(3), Atrous(2), Sparse(3, 1)], ids=repr)
@pytest.mark.parametrize("rule", [Greedy(), Beam(3)], ids=repr)
def test_generation_equals_generation_without_a_cache(attention: Mechanism, rule: Rule) -> None:
    model = random_model(tiny_config(application="lm", attention=attention, max_positions=80))
    prompts = random_rows(model.config, (5, 2, 9))

    class Anew(UncachedState):
        def select(self, rows: torch.Tensor) -> None:
            super().select(rows.tolist())

    anew = Anew(model, prompts)
    logits, state = model.prompt(prompts.ids, prompts.segments)
    options = {"rule": rule, "end_id": 0, "maximum_length": 40, "minimum_length": 40}
    with torch.no_grad():
        expected = generate(lambda tokens, state: state.step(tokens), anew, anew.logits(1)[:, 0], **options)
    found = generate(model.step, state, logits, **options)
    assert [h[0].tokens for h in found] == [h[0].tokens for h in expected]


@pytest.mark.parametrize(
    "record", [Local(2**31 - 1), Atrous(2**31 - 1), Sparse(3, 2**31 - 1), Sparse(2**31 - 1, 3)]
)
def test_the_largest_sizes_train_and_decode(record: Mechanism) -> None:
    """Nothing is made of their size: long rows are cut, and written on."""
    model = random_model(
        tiny_config(attention=record, application="lm", position="none", segment_vocab_size=1)
    )
    rows = random_rows(model.config, (90, 70))
    run_packed(model.train(), rows)[0].sum().backward()
    expected = run_packed(model.eval(), rows)[1]
    _, state = model.prompt([row[:-1] for row in rows.ids])
    step = model.step(torch.tensor([[row[-1]] for row in rows.ids]), state)
    torch.testing.assert_close(step[:, -1], expected[[89, 159]], **EXACT)
