"""Drafts: the same ids as without them, the exact distribution, and fewer steps where the text repeats."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.config import ModelConfig
from hanformer.decode import (
    AutomatonConstraint,
    Beam,
    ForbiddenWords,
    Greedy,
    NoRepeat,
    PromptLookup,
    Sample,
    generate,
    table_prompt,
    table_step,
)
from hanformer.decode.search import Row
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from tests.decode.oracle import END, random_table
from tests.decode.test_sample import chi_square_z, outcome, sequence_probabilities

RULES = [Greedy(), Sample(seed=4), Sample(seed=1, samples=3, top_k=3), Beam(3, 3)]
SIZE = 6
prompts_of = st.lists(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=9), min_size=1, max_size=3)


class Watched:
    """Counts the calls of a step."""

    def __init__(self, table: torch.Tensor) -> None:
        self.step, self.widths = table_step(table), []

    def __call__(self, tokens: torch.Tensor, state) -> torch.Tensor:
        self.widths.append(tokens.shape[1])
        return self.step(tokens, state)


def decoded(table, prompts, rule, length, **settings):
    logits, state = table_prompt(table, prompts)
    step = Watched(table)
    found = generate(step, state, logits, rule=rule, end_id=END, maximum_length=length, **settings)
    return found, step.widths


@pytest.mark.parametrize("rule", RULES, ids=repr)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), prompts_of, st.integers(1, 3), st.integers(1, 5), st.integers(1, 9))
def test_ids_and_scores_are_those_without_a_draft(rule, seed, prompts, longest, count, length) -> None:
    table = random_table(SIZE, 1, seed, spread=3)
    plain, _ = decoded(table, prompts, rule, length)
    drafted, widths = decoded(table, prompts, rule, length, draft=PromptLookup(prompts, longest, count))
    assert drafted == plain
    assert sum(widths) <= sum(widths[:1]) + len(widths) * (count + 1) and max(widths, default=0) <= length


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), prompts_of, st.sampled_from(RULES))
def test_constraints_and_filters_see_every_token(seed, prompts, rule) -> None:
    table = random_table(SIZE, 1, seed, spread=3)
    found = []
    for draft in (None, PromptLookup(prompts)):
        automaton = ForbiddenWords([[1, 2], [3]], SIZE, END)
        constraint = AutomatonConstraint(automaton, [automaton.root] * len(prompts), SIZE)
        each = NoRepeat(3)
        found.append(decoded(table, prompts, rule, 8, constraint=constraint, filters=[each], draft=draft)[0])
    assert found[0] == found[1]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 2), min_size=2, max_size=8))
def test_beams_that_change_places_are_read_anew(seed, prompt) -> None:
    table = random_table(3, 2, seed)
    table[..., END] -= 3
    draft = PromptLookup([prompt], 1, 4)
    assert (
        decoded(table, [prompt], Beam(4, 4), 9, draft=draft)[0] == decoded(table, [prompt], Beam(4, 4), 9)[0]
    )


def test_draws_with_a_draft_follow_the_exact_distribution() -> None:
    table, rule = random_table(4, 1, 3), Sample(seed=1)
    counts: Counter = Counter()
    for seed in range(1000):
        draft = PromptLookup([[2, 1, 3, 2]], 1, 1)
        [[found]], _ = decoded(table, [[2, 1, 3, 2]], Sample(seed), 2, draft=draft)
        counts[outcome(found)] += 1
    # `generate` forbids the end at the first step.
    expected = sequence_probabilities(rule, _without_first_end(table), 2)
    assert abs(chi_square_z(counts, expected)) < 4


def _without_first_end(table: torch.Tensor) -> torch.Tensor:
    without = table.clone()
    without[2, END] = -torch.inf
    return torch.where(torch.arange(4)[:, None] == 2, without, table)


def test_a_text_that_repeats_takes_few_steps() -> None:
    table = torch.full((7, 7), -9.0)
    for token in range(1, 7):
        table[token, token % 6 + 1] = 9.0
    prompts = [[1, 2, 3, 4, 5, 6, 1]]
    plain, steps = decoded(table, prompts, Greedy(), 24)
    drafted, few = decoded(table, prompts, Greedy(), 24, draft=PromptLookup(prompts, 3, 8))
    assert drafted == plain and len(steps) == 23 and len(few) == 4  # 1 + 1 token, then 9, 9 and 4


def test_ids_are_the_same_on_a_real_model() -> None:
    torch.manual_seed(5)
    config = ModelConfig(
        vocab_size=11,
        hidden_size=16,
        layers=2,
        attention_heads=2,
        intermediate_size=32,
        max_positions=64,
        application="lm",
    )
    model = Transformer(config, heads=("lm",)).initialise().eval().double()
    prompts = [[3, 4, 5, 3, 4], [7, 7, 2]]
    for rule in (Greedy(), Sample(seed=3, samples=2)):
        found = []
        for draft in (None, PromptLookup(prompts)):
            logits, state = model.prompt(prompts)
            found.append(
                generate(model.step, state, logits, rule=rule, end_id=END, maximum_length=20, draft=draft)
            )
        tokens = [[[h.tokens for h in each] for each in every] for every in found]
        assert tokens[0] == tokens[1]


def test_guesses_follow_the_longest_and_latest_match() -> None:
    lookup = PromptLookup([[1, 2, 3, 1, 2, 4, 2]], 2, 2)
    assert lookup([Row(0, (9, 1, 2))]) == [(4, 2)]  # after the later "1 2"
    assert lookup([Row(0, (5,))]) == [()] and lookup([Row(0)]) == [(4, 2)]


def test_mistakes_are_refused() -> None:
    with pytest.raises(UserError, match="sizes of at least 1"):
        PromptLookup([], 0)
    table = random_table(5, 1, 1)
    with pytest.raises(UserError, match=r"drafted ids in 0\.\.4, got 7\.\.7"):
        decoded(table, [[1]], Greedy(), 5, draft=lambda rows: [[7]] * len(rows), minimum_length=5)
    with pytest.raises(UserError, match="to guess for 1 rows, got 0"):
        decoded(table, [[1]], Greedy(), 5, draft=lambda rows: [], minimum_length=5)
