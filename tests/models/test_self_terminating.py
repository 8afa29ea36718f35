"""Decoding with a head that must stop: cached = teacher forcing, states move with the rows, and it ends."""

from __future__ import annotations

import pytest
import torch

from hanformer.data.sequences import Pair, join_pairs
from hanformer.decode import Beam, Greedy, PromptLookup, Sample, generate
from hanformer.models.self_terminating import TerminatingTransformer, terminating_log_p
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating
from hanformer.theory.termination import certain_end, non_termination
from tests.harness import random_model, tiny_config

END = 2
PROMPTS = [[1, 5, 6], [1, 9], [1, 3, 3, 4]]
RULES = [SelfTerminating(0.05), NonMonotonic(0.05)]


def terminating(rule: object, application: str = "unilm", bias: float = 0.0) -> TerminatingTransformer:
    model = TerminatingTransformer(
        random_model(tiny_config(application=application, max_positions=120)), END, rule
    )
    torch.nn.init.normal_(model.stop.output.weight)
    torch.nn.init.constant_(model.stop.output.bias, bias)
    return model.eval()


@pytest.mark.parametrize("application", ["unilm", "lm"])
@pytest.mark.parametrize("rule", RULES)
def test_steps_equal_teacher_forcing(rule: object, application: str) -> None:
    model = terminating(rule, application)
    targets = [[7, 8, 9, 10], [4, 4, 4, 4], [11, 12, 13, 14]]
    expected = []
    for prompt, target in zip(PROMPTS, targets, strict=True):
        batch = join_pairs([Pair(tuple(prompt), (*target, END))])
        if application == "lm":
            batch.layout.segments.zero_()
        expected.append(terminating_log_p(model, batch))
    first, state = model.prompt(PROMPTS)
    found = [first[:, None], model.step(torch.tensor(targets)[:, :1], state)]
    found.append(model.step(torch.tensor(targets)[:, 1:], state))
    torch.testing.assert_close(torch.cat(found, 1), torch.stack(expected))


@pytest.mark.parametrize("rule", RULES)
def test_the_state_moves_with_the_rows_and_forgets(rule: object) -> None:
    model = terminating(rule)
    _, state = model.prompt(PROMPTS)
    model.step(torch.tensor([[7, 8], [9, 10], [11, 12]]), state)
    state.select(torch.tensor([2, 0, 0]))
    state.truncate(1)
    found = model.step(torch.tensor([[5], [6], [7]]), state)
    for row, (prompt, tokens) in enumerate([(2, [11, 5]), (0, [7, 6]), (0, [7, 7])]):
        _, alone = model.prompt([PROMPTS[prompt]])
        expected = model.step(torch.tensor([tokens]), alone)[0, -1]
        torch.testing.assert_close(found[row, 0], expected)
    assert state.length == 2 and state.carried.shape == (3, 3)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", [Greedy(), Beam(3, 3), Sample(samples=2)], ids=repr)
def test_batched_is_one_by_one_and_a_draft_changes_nothing(rule: object, how: object) -> None:
    model = terminating(rule, bias=1.0 if isinstance(rule, SelfTerminating) else -1.0)

    def run(prompts: list[list[int]], decoding: object, draft: object = None) -> list:
        logits, state = model.prompt(prompts)
        return generate(model.step, state, logits, rule=decoding, end_id=END, maximum_length=9, draft=draft)

    together = run(PROMPTS, how)
    drafted = run(PROMPTS, how, PromptLookup(PROMPTS))
    for number, (prompt, found, other) in enumerate(zip(PROMPTS, together, drafted, strict=True)):
        alone = Sample(samples=2, first_row=number) if isinstance(how, Sample) else how
        (expected,) = run([prompt], alone)
        assert [h.tokens for h in found] == [h.tokens for h in expected] == [h.tokens for h in other]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected])


@pytest.mark.parametrize("rule", RULES)
def test_greedy_ends_where_the_bound_says_though_the_model_never_would(rule: object) -> None:
    steps = certain_end(0.05)
    model = terminating(rule, bias=1e3 if isinstance(rule, SelfTerminating) else -1e3)
    torch.nn.init.zeros_(model.stop.output.weight)
    logits, state = model.prompt(PROMPTS)
    found = generate(
        model.step, state, logits, rule=Greedy(), end_id=END, maximum_length=100, minimum_length=0
    )
    rows = [row[0] for row in found]
    # The other tokens share the rest: the end token wins as soon as it beats the best of them.
    assert all(row.finished and len(row.tokens) < steps for row in rows)
    assert non_termination(rows, [1, steps]).curve == (1.0, 0.0)
