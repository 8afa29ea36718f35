"""The recurrent language model: decoding with a state, saving, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.decode import Beam, Greedy, Sample, generate
from hanformer.errors import UserError
from hanformer.models.recurrent_lm import RecurrentConfig, RecurrentLm, RecurrentState
from hanformer.models.recurrent_store import is_recurrent, load_recurrent, save_recurrent
from hanformer.nn.layers.recurrent.kinds import KINDS

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def tiny(kind: str = "on_lstm", tied: bool = True) -> RecurrentLm:
    torch.manual_seed(1)
    config = RecurrentConfig(23, 8, 12, 2, kind, 4, tied=tied, weight_drop=0.2)
    model = RecurrentLm(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_with_a_state_is_reading_anew(kind: str) -> None:
    model, prompts = tiny(kind), [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [11]]
    logits, state = model.prompt(prompts)
    rows = [list(prompt) for prompt in prompts]
    for tokens, moved in (([[3], [4], [5], [6]], [2, 0, 0]), ([[1, 2], [3, 4], [5, 6]], [1, 2, 0, 0])):
        for row, single in zip(rows, logits, strict=True):
            torch.testing.assert_close(single, model(torch.tensor([row]))[0, -1], **CLOSE)
        chosen = torch.tensor(tokens)
        after = model.step(chosen, state)
        rows = [row + new for row, new in zip(rows, tokens, strict=True)]
        for row, several in zip(rows, after, strict=True):
            torch.testing.assert_close(several, model(torch.tensor([row]))[0, -chosen.shape[1] :], **CLOSE)
        state.select(torch.tensor(moved))
        rows, logits = [rows[place] for place in moved], after[moved, -1]
    assert state.length == 3 and state.numbers == sum(
        cell.parts * cell.hidden_size for cell in model.stack.layers
    )


class _Anew:
    """No cache: rows of tokens, read from the beginning at every step."""

    def __init__(self, model: RecurrentLm, rows: list[list[int]]) -> None:
        self.model, self.rows, self.length = model, rows, 0

    def last(self, count: int) -> Tensor:
        return torch.stack([self.model(torch.tensor([row]))[0, -count:] for row in self.rows])

    def step(self, tokens: Tensor, state: _Anew) -> Tensor:
        self.rows = [row + new for row, new in zip(self.rows, tokens.tolist(), strict=True)]
        self.length += tokens.shape[1]
        return self.last(tokens.shape[1])

    def select(self, rows: Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]

    def truncate(self, length: int) -> None:
        raise AssertionError


@pytest.mark.parametrize("rule", [Greedy(), Beam(3), Sample(5, 2)], ids=["greedy", "beam", "sample"])
@pytest.mark.parametrize("kind", ["on_lstm", "lstm"])
def test_the_loop_of_decoding_writes_the_same_with_and_without_a_state(kind: str, rule: object) -> None:
    model, prompts = tiny(kind), [[1, 2, 3], [4], [5, 6]]
    logits, state = model.prompt(prompts)
    anew = _Anew(model, [list(prompt) for prompt in prompts])
    with torch.no_grad():
        found = generate(model.step, state, logits, rule=rule, end_id=0, maximum_length=9)
        wanted = generate(anew.step, anew, anew.last(1)[:, 0], rule=rule, end_id=0, maximum_length=9)
    assert [[h.tokens for h in row] for row in found] == [[h.tokens for h in row] for row in wanted]


def test_a_draft_that_would_go_back_is_refused() -> None:
    model = tiny()
    logits, state = model.prompt([[1, 2, 1, 2, 1]])
    state.truncate(0)
    with pytest.raises(UserError, match="cannot go back from 2 to 1 tokens; decode without a draft"):
        state.append(state.states, 2)
        state.truncate(1)
    _, state = model.prompt([[1, 2, 1, 2, 1]])
    with pytest.raises(UserError, match="cannot go back"):
        draft = lambda rows: [[int(logits.argmin())]] * len(rows)  # noqa: E731
        generate(
            model.step,
            state,
            logits,
            rule=Greedy(),
            end_id=0,
            maximum_length=9,
            minimum_length=6,
            draft=draft,
        )


@given(st.lists(st.lists(st.integers(0, 22), min_size=1, max_size=9), min_size=1, max_size=5))
@settings(deadline=None, derandomize=True, max_examples=25)
def test_prompts_do_not_depend_on_their_neighbours(prompts: list[list[int]]) -> None:
    model = tiny()
    together, state = model.prompt(prompts)
    for row, prompt in enumerate(prompts):
        alone, single = model.prompt([prompt])
        torch.testing.assert_close(together[row], alone[0], **CLOSE)
        for ours, theirs in zip(state.states, single.states, strict=True):
            torch.testing.assert_close(ours[1][row], theirs[1][0], **CLOSE)


@pytest.mark.parametrize("tied", [True, False])
def test_saved_and_opened_again(tmp_path: Path, tied: bool) -> None:
    model, ids = tiny("gru", tied), torch.tensor([[1, 2, 3]])
    save_recurrent(model, tmp_path)
    opened = load_recurrent(tmp_path)
    assert is_recurrent(tmp_path) and not is_recurrent(tmp_path / "model.safetensors")
    save_recurrent(model, tmp_path / "run" / "best")
    assert is_recurrent(tmp_path / "run") and torch.equal(load_recurrent(tmp_path / "run")(ids), model(ids))
    assert opened.config == model.config and torch.equal(opened(ids), model(ids)) and not opened.training
    assert (opened.output.weight is opened.embedding.table.weight) == tied
    folded = opened.prepare_for_inference()
    torch.testing.assert_close(folded(ids), model(ids))


def test_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_recurrent(tmp_path / "nothing")
    save_recurrent(tiny(), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    for changes, message in (
        ({"hidden_size": 16}, "weights and config disagree"),
        ({"hanformer_recurrent": 9}, "expected a recurrent language model"),
        ({"layers": "two"}, "layers: expected"),
        ({"depth": 2}, "depth: unknown name"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**values, **changes}))
        with pytest.raises(UserError, match=message):
            load_recurrent(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        load_recurrent(tmp_path)


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UserError, match="layers: expected at least 1, got 0"):
        RecurrentConfig(5, layers=0)
    model = tiny()
    with pytest.raises(UserError, match="prompts of at least one token"):
        model.prompt([[1], []])
    with pytest.raises(UserError, match=r"expected ids in 0\.\.22, got 3\.\.23"):
        model(torch.tensor([[3, 23]]))


def test_training_uses_every_dropout_and_reaches_every_parameter() -> None:
    model, ids = tiny().train(), torch.randint(23, (3, 6))
    assert not torch.equal(model(ids), model(ids))
    model(ids).sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters()
    )
    state = RecurrentState(model.stack.first_states(2))
    assert state.length == 0 and model(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, 23)
