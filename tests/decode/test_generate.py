"""The loop: who moves when, what is refused, and the table that serves as a model."""

from __future__ import annotations

import math

import pytest
import torch

from hanformer.decode import Beam, Greedy, Sample, TableState, generate, table_prompt, table_step
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table

RULES = [Greedy(), Beam(3), Sample()]


class WatchedState(TableState):
    """Counts the rows selected."""

    def __init__(self, tokens: torch.Tensor) -> None:
        super().__init__(tokens)
        self.selected: list[list[int]] = []

    def select(self, rows: torch.Tensor) -> None:
        self.selected.append(rows.tolist())
        super().select(rows)


def test_prompts_that_are_over_leave_the_batch_and_nothing_else_moves() -> None:
    table = torch.full((5, 5), -9.0)
    for token, following in [(1, 2), (2, 3), (3, 4), (4, END)]:
        table[token, following] = 9.0
    state, sizes = WatchedState(torch.tensor([[1], [3], [2], [1]])), []
    step = table_step(table)

    def watched(tokens: torch.Tensor, state: WatchedState) -> torch.Tensor:
        sizes.append(len(tokens))
        return step(tokens, state)

    logits = table[torch.tensor([1, 3, 2, 1])]
    found = generate(watched, state, logits, rule=Greedy(), end_id=END, maximum_length=9)
    assert [h[0].tokens for h in found] == [(2, 3, 4), (4,), (3, 4), (2, 3, 4)]
    assert sizes == [4, 3, 2]
    assert state.selected == [[0, 2, 3], [0, 2]]


def test_the_last_token_is_not_fed() -> None:
    logits, state = table_prompt(random_table(5, 1, 1), [[1]])
    generate(
        table_step(random_table(5, 1, 1)),
        state,
        logits,
        rule=Greedy(),
        end_id=END,
        maximum_length=3,
        minimum_length=3,
    )
    assert state.length == 2


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_bad_logits_are_refused(rule) -> None:
    for bad in (math.nan, math.inf):
        table = random_table(5, 1, 1)
        table[2, 3] = bad
        with pytest.raises(UserError, match="got NaN or"):
            decode(table, [[1], [2]], rule, 4)
    with pytest.raises(UserError, match="prompt 1: expected an allowed token after 0"):
        table = random_table(5, 1, 1)
        table[2] = -math.inf
        decode(table, [[1], [2]], rule, 4)


def test_wrong_shapes_are_refused() -> None:
    table = random_table(5, 1, 1)
    logits, state = table_prompt(table, [[1], [2]])
    common = {"rule": Greedy(), "end_id": END, "maximum_length": 4}
    with pytest.raises(UserError, match=r"expected the step to return logits \[2, 1, 5\].* got \[2, 5\]"):
        generate(lambda tokens, state: table[tokens[:, 0]], state, logits, **common)
    with pytest.raises(UserError, match="got NoneType"):
        generate(lambda tokens, state: None, state, logits, **common)
    with pytest.raises(UserError, match="floating-point tensor"):
        generate(table_step(table), state, logits[0], **common)

    class Narrow:
        def allowed(self) -> torch.Tensor:
            return torch.ones(1, 5, dtype=torch.bool)

    with pytest.raises(UserError, match=r"bool tensor \[2, 5\]"):
        generate(table_step(table), state, logits, constraint=Narrow(), **common)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end_id": 5}, "end_id in the vocabulary"),
        ({"maximum_length": 0, "minimum_length": 0}, "maximum_length >= 1"),
        ({"minimum_length": 5}, "minimum_length <= maximum_length"),
    ],
    ids=str,
)
def test_impossible_limits_are_refused(changes, message) -> None:
    logits, state = table_prompt(random_table(5, 1, 1), [[1]])
    limits = {"end_id": END, "maximum_length": 4, "minimum_length": 1, **changes}
    with pytest.raises(UserError, match=message):
        generate(table_step(random_table(5, 1, 1)), state, logits, rule=Greedy(), **limits)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_no_prompts_give_no_results(rule) -> None:
    assert decode(random_table(5, 1, 1), [], rule, 4) == []


def test_logits_given_are_left_alone_and_half_precision_is_scored_in_float32() -> None:
    table = random_table(5, 1, 1).bfloat16()
    logits, state = table_prompt(table, [[1]])
    before = logits.clone()
    [[found]] = generate(table_step(table), state, logits, rule=Greedy(), end_id=END, maximum_length=1)
    assert torch.equal(logits, before)
    expected = float(logits.float().log_softmax(-1)[0, found.tokens[0]])
    assert found.score == pytest.approx(expected, abs=1e-6)


def test_table_step_takes_several_tokens_and_truncates() -> None:
    table = random_table(4, 2, 2)
    _, state = table_prompt(table, [[1, 2], [3, 0]])
    tokens, step = torch.tensor([[1, 3, 2], [0, 1, 1]]), table_step(table)
    together = step(tokens, state)
    assert together.shape == (2, 3, 4) and state.length == 3
    assert torch.equal(together[1, 0], table[0, 0]) and torch.equal(together[0, 2], table[3, 2])
    state.truncate(1)
    one_by_one = [step(tokens[:, place : place + 1], state) for place in (1, 2)]
    assert torch.equal(torch.cat(one_by_one, 1), together[:, 1:])
    with pytest.raises(UserError, match="at least 2 tokens"):
        table_prompt(table, [[1]])
