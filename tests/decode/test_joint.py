"""Several steps as one: guidance against transformers' formula, ensembles, and states that move together."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from transformers.generation import logits_process as peer

from hanformer.decode import Beam, Greedy, Sample, generate, table_prompt, table_step
from hanformer.decode.joint import JointState, fuse, guidance, joint_step, mean_probability
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table


def joint(tables: list[torch.Tensor], prompts: list[list[int]], fusion, rule) -> list:
    pairs = [table_prompt(table, prompts) for table in tables]
    step = joint_step([table_step(table) for table in tables], fusion)
    state = JointState([state for _, state in pairs])
    first = fuse([logits for logits, _ in pairs], fusion)
    return generate(step, state, first, rule=rule, end_id=END, maximum_length=6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.7, 3.0])
def test_guidance_equals_transformers(scale) -> None:
    given, without = random_table(7, 1, 1).float(), random_table(7, 1, 2).float()
    processor = peer.UnbatchedClassifierFreeGuidanceLogitsProcessor(scale, None)
    processor.get_unconditional_logits = lambda ids: without[:, None]
    expected = processor(None, given)
    torch.testing.assert_close(fuse([given, without], guidance(scale)), expected, rtol=1e-5, atol=1e-5)


def test_guidance_keeps_impossible_tokens_impossible() -> None:
    given, without = torch.zeros(1, 3), torch.zeros(1, 3)
    given[0, 1], without[0, 1], without[0, 2] = -math.inf, -math.inf, -math.inf
    guided = fuse([given, without], guidance(2.0))
    assert guided.isneginf().tolist() == [[False, True, False]]


@pytest.mark.parametrize("rule", [Greedy(), Beam(3, 3), Sample(samples=3)], ids=repr)
def test_joint_decoding_is_decoding_of_the_fused_table(rule) -> None:
    tables = [random_table(6, 1, seed) for seed in (1, 2)]
    for fusion in (guidance(1.5), mean_probability):
        fused = fuse(tables, fusion)
        prompts = [[1], [4], [2]]
        found = joint(tables, prompts, fusion, rule)
        expected = decode(fused, prompts, rule, 6, minimum_length=1)
        assert [[h.tokens for h in each] for each in found] == [[h.tokens for h in each] for each in expected]


def test_mean_probability_is_a_mean() -> None:
    tables = [random_table(6, 1, seed) for seed in (1, 2, 3)]
    expected = torch.stack([table.softmax(-1) for table in tables]).mean(0)
    torch.testing.assert_close(fuse(tables, mean_probability).exp(), expected)


def test_states_move_together() -> None:
    states = [SimpleNamespace(length=2, calls=[]) for _ in range(2)]
    for state in states:
        state.select, state.truncate = state.calls.append, state.calls.append
    both = JointState(states)
    both.select(torch.tensor([1]))
    both.truncate(1)
    assert both.length == 2 and all([1, int(s.calls[0]), s.calls[1]] == [1, 1, 1] for s in states)


def test_mistakes_are_refused() -> None:
    with pytest.raises(UserError, match="at least one state"):
        JointState([])
    with pytest.raises(UserError, match="one shape"):
        fuse([torch.zeros(1, 3), torch.zeros(1, 4)], mean_probability)
    with pytest.raises(UserError, match="expected two steps"):
        fuse([torch.zeros(1, 3)], guidance(1.0))
    _, state = table_prompt(random_table(3, 1, 1), [[1]])
    with pytest.raises(UserError, match="expected 2 states, got 1"):
        joint_step([table_step(torch.zeros(3, 3))] * 2, mean_probability)(
            torch.tensor([[1]]), JointState([state])
        )
