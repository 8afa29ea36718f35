"""Decoding with a head that must stop: cached = teacher forcing, states move with the rows, and it ends."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.decode import Beam, Greedy, PromptLookup, Sample, generate
from hanformer.errors import UserError
from hanformer.models.self_terminating import (
    TerminatingTransformer,
    log_p_of,
    target_lengths,
    terminating_log_p,
)
from hanformer.nn.functional.packing import Layout
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating
from hanformer.theory.termination import certain_end, non_termination
from hanformer.train.tricks.crossing import cross_pairs
from tests.harness import random_model, tiny_config
from tests.models.test_encoder_decoder import states, tiny

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
def test_what_learned_whole_texts_counts_the_prompt_too(rule: object) -> None:
    """The distribution behind a prompt is that of training on the text from its first token on."""
    inner = terminating(rule, "lm")
    model = TerminatingTransformer(inner.transformer, END, rule, counts_prompt=True)
    model.stop = inner.stop
    tokens = [[7, 8], [9, 10], [11, 12]]
    first, state = model.prompt(PROMPTS)
    found = torch.cat([first[:, None], model.step(torch.tensor(tokens), state)], 1)
    for row, prompt, more in zip(found, PROMPTS, tokens, strict=True):
        ids = torch.tensor([*prompt, *more])
        batch = SequenceBatch(ids, Layout.of([len(ids)]), torch.arange(len(ids)), ids.roll(-1))
        torch.testing.assert_close(row, terminating_log_p(model, batch)[len(prompt) - 1 :])
    assert not torch.allclose(first, inner.prompt(PROMPTS)[0])


@pytest.mark.parametrize("rule", RULES)
def test_an_encoder_decoder_may_have_the_head_too(rule: object) -> None:
    model = TerminatingTransformer(tiny("t5.1.1", "standard"), END, rule).eval()
    torch.nn.init.normal_(model.stop.output.weight)
    targets = [(7, 8, END), (9, END), (4, 4, 4, END)]
    batch = cross_pairs([Pair(tuple(row), target) for row, target in zip(PROMPTS, targets, strict=True)])
    inputs = [[0, *target[:-1]] for target in targets]
    packed = log_p_of(model, states(model.transformer, PROMPTS, inputs), batch)
    torch.testing.assert_close(packed.exp().sum(1), torch.ones(len(packed), dtype=packed.dtype))
    for prompt, target, expected in zip(PROMPTS, targets, packed.split([3, 2, 4]), strict=True):
        first, state = model.prompt([prompt])
        found = torch.cat([first, model.step(torch.tensor([target[:-1]]), state)[0]])
        torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match="one stack"):
        terminating_log_p(model, join_pairs([Pair((1,), (END,))]))


def test_a_target_is_over_behind_its_end_and_with_its_row() -> None:
    def lengths(rows: list[int], places: list[int], labels: list[int]) -> list[int]:
        batch = SequenceBatch(
            torch.zeros(0), Layout.of(rows), torch.tensor(places).long(), torch.tensor(labels).long()
        )
        return target_lengths(batch, END)

    assert lengths([4, 3], [1, 2, 3, 4, 6], [5, END, 7, 8, END]) == [2, 1, 2]
    assert lengths([2], [0, 1], [END, END]) == [1, 1]
    assert lengths([3], [0, 1, 2], [5, 6, 7]) == [3]
    assert lengths([3], [], []) == []


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


def every_kind(rule: object) -> list[TerminatingTransformer]:
    """One stack that counts the prompt and one that does not, and two stacks."""
    alone = terminating(rule, "lm")
    counting = TerminatingTransformer(alone.transformer, END, rule, counts_prompt=True)
    counting.stop = alone.stop
    two = TerminatingTransformer(tiny("t5.1.1", "standard"), END, rule)
    torch.nn.init.normal_(two.stop.output.weight)
    return [alone.eval(), counting.eval(), two.eval()]


MOVES = st.one_of(
    st.tuples(st.just("step"), st.integers(1, 3)),
    st.tuples(st.just("select"), st.lists(st.integers(0, 5), min_size=1, max_size=5)),
    st.tuples(st.just("truncate"), st.integers(0, 4)),
)


@pytest.mark.parametrize("place", range(3))
@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(MOVES, min_size=1, max_size=6), st.sampled_from(RULES))
def test_whatever_is_moved_the_rows_go_on_as_if_read_anew(place: int, moves: list, rule: object) -> None:
    torch.manual_seed(1)
    model = every_kind(rule)[place]
    rows: list[tuple[int, list[int]]] = [(0, []), (1, []), (2, [])]
    _, state = model.prompt(PROMPTS)
    for name, argument in [*moves, ("step", 1)]:
        if name == "step":
            tokens = torch.randint(3, 23, (len(rows), argument))
            found = model.step(tokens, state)
            rows = [(prompt, [*old, *new]) for (prompt, old), new in zip(rows, tokens.tolist(), strict=True)]
            for row, (prompt, written) in enumerate(rows):
                _, fresh = model.prompt([PROMPTS[prompt]])
                expected = model.step(torch.tensor([written]), fresh)[0, -argument:]
                torch.testing.assert_close(found[row], expected)
        elif name == "select":
            chosen = [number % len(rows) for number in argument]
            state.select(torch.tensor(chosen))
            rows = [rows[number] for number in chosen]
        else:
            length = min(argument, state.length)
            state.truncate(length)
            rows = [(prompt, written[:length]) for prompt, written in rows]


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
