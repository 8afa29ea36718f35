"""Joint decoding over passages: brute force from the definition, real UniLM states, and its special cases."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hanformer.decode import Beam, Greedy, Power, Sample, TableState, generate, table_prompt, table_step
from hanformer.decode.joint import agreement, mean_probability
from hanformer.decode.joint_passages import answer_jointly, joint_passages, passages_step
from hanformer.errors import UserError
from hanformer.models import Transformer
from tests.decode.oracle import END, random_table
from tests.harness import random_model, tiny_config

SIZE, LONGEST = 4, 3


def fused(probabilities: Sequence[Sequence[float]]) -> list[float]:
    """The published fusion, token by token."""
    return [sum(p * p for p in ps) / (1 + sum(ps)) for ps in zip(*probabilities, strict=True)]


def continues(passage: Sequence[int], tokens: tuple[int, ...], token: int) -> bool:
    whole = [*tokens, token]
    return any(list(passage[a : a + len(whole)]) == whole for a in range(len(passage)))


def scores_after(
    table: Tensor, lasts: Sequence[int], passages: Sequence[Sequence[int]] | None, tokens: tuple[int, ...]
) -> list[float]:
    """Fused values of the next token, over the passages that a question still has."""
    rows = []
    for number, last in enumerate(lasts):
        row = table[tokens[-1] if tokens else last].softmax(-1).tolist()
        if passages is not None:
            row = [
                p if token == END or continues(passages[number], tokens, token) else 0.0
                for token, p in enumerate(row)
            ]
        rows.append(row)
    return fused(rows)


def brute_force(
    table: Tensor, lasts: Sequence[int], passages: Sequence[Sequence[int]] | None
) -> list[tuple[tuple[int, ...], float]]:
    """Every finished answer with its score, best first."""
    kept = [n for n, last in enumerate(lasts) if int(table[last].argmax()) != END]
    if not kept:
        return [((), 0.0)]
    lasts = [lasts[n] for n in kept]
    own = None if passages is None else [passages[n] for n in kept]
    found = []
    for length in range(LONGEST):
        for body in itertools.product(range(1, SIZE), repeat=length):
            values = [
                scores_after(table, lasts, own, body[:step])[token] for step, token in enumerate((*body, END))
            ]
            if all(values):
                found.append((body, sum(map(math.log, values))))
    return sorted(found, key=lambda pair: -pair[1])


questions = st.lists(
    st.lists(
        st.tuples(st.integers(1, SIZE - 1), st.lists(st.integers(1, SIZE - 1), min_size=1, max_size=5)),
        max_size=4,
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(questions, st.integers(0, 999), st.booleans())
def test_wide_beam_is_brute_force(asked, seed, extractive) -> None:
    table = random_table(SIZE, 1, seed)
    lasts = [last for question in asked for last, _ in question]
    texts = [text for question in asked for _, text in question]
    logits, state = table_prompt(table, [[last] for last in lasts])
    found = answer_jointly(
        table_step(table),
        state,
        logits,
        [len(question) for question in asked],
        rule=Beam(40, 40, Power(0.0)),
        end_id=END,
        maximum_length=LONGEST,
        passages=texts if extractive else None,
    )
    for question, hypotheses in zip(asked, found, strict=True):
        own = [text for _, text in question] if extractive else None
        expected = brute_force(table, [last for last, _ in question], own)
        ours = {h.tokens: h.score for h in hypotheses if h.finished}
        assert ours == {tokens: pytest.approx(score, abs=1e-9) for tokens, score in expected}
        assert hypotheses[0].score == pytest.approx(expected[0][1], abs=1e-9)


def unilm_prompts(asked: Sequence[int]) -> list[list[int]]:
    """A prompt for each of so many passages of each question, of unequal lengths."""
    generator = torch.Generator().manual_seed(4)
    lengths = [3 + (number * 2) % 5 for number in range(sum(asked))]
    return [[1, *torch.randint(4, 20, (length,), generator=generator).tolist(), 2] for length in lengths]


def answer(model: Transformer, asked: Sequence[int], prompts: list[list[int]], rule, extractive) -> list:
    logits, state = model.prompt(prompts)
    passages = [[t for t in prompt if t > 3] for prompt in prompts] if extractive else None
    return answer_jointly(
        model.step, state, logits, asked, rule=rule, end_id=2, maximum_length=6, passages=passages
    )


@pytest.mark.parametrize("rule", [Greedy(), Beam(3, 3), Beam(4, 4, Power(0.0))], ids=repr)
@pytest.mark.parametrize("extractive", [False, True])
def test_unilm_states_move_and_questions_do_not_meet(rule, extractive) -> None:
    model = random_model(tiny_config(application="unilm"))
    asked = [3, 1, 2, 5]
    prompts = unilm_prompts(asked)
    together = answer(model, asked, prompts, rule, extractive)
    start = 0
    for count, found in zip(asked, together, strict=True):
        (alone,) = answer(model, [count], prompts[start : start + count], rule, extractive)
        assert [h.tokens for h in found] == [h.tokens for h in alone]
        assert [h.score for h in found] == pytest.approx([h.score for h in alone], abs=1e-9)
        rescored = [rescore(model, prompts[start : start + count], h.tokens, extractive) for h in found]
        weighed = [h.score * (1 if penalty_free(rule) else len(h.tokens) + h.finished) for h in found]
        ends = [h.finished for h in found]
        assert weighed == pytest.approx(
            [whole if end else part for (whole, part), end in zip(rescored, ends, strict=True)], abs=1e-8
        )
        start += count


def penalty_free(rule) -> bool:
    return not isinstance(rule, Beam) or rule.penalty(7) == 1.0


def rescore(
    model: Transformer, prompts: list[list[int]], tokens: tuple[int, ...], extractive: bool
) -> tuple[float, float]:
    """The score of an answer with and without its end, every step read from the beginning, passage by passage."""
    kept = [p for p in prompts if int(model.prompt([p])[0].argmax()) != 2]
    total, part = 0.0, 0.0
    for step, token in enumerate((*tokens, 2)):
        rows = []
        for prompt in kept:
            logits, state = model.prompt([prompt])
            if step:
                logits = model.step(torch.tensor([tokens[:step]]), state)[:, -1]
            row = logits[0].softmax(-1).tolist()
            if extractive:
                own = [t for t in prompt if t > 3]
                row = [p if v == 2 or continues(own, tokens[:step], v) else 0.0 for v, p in enumerate(row)]
            rows.append(row)
        part = total
        total += math.log(fused(rows)[token]) if kept else 0.0
    return total, part


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 999))
def test_one_passage_is_plain_greedy(seed) -> None:
    """p^2 / (1 + p) rises with p."""
    table = random_table(6, 1, seed)
    prompts = [[t] for t in range(1, 6) if int(table[t].argmax()) != END]
    if not prompts:
        return
    logits, state = table_prompt(table, prompts)
    joint = answer_jointly(
        table_step(table), state, logits, [1] * len(prompts), rule=Greedy(), end_id=END, maximum_length=5
    )
    logits, state = table_prompt(table, prompts)
    plain = generate(table_step(table), state, logits, rule=Greedy(), end_id=END, maximum_length=5)
    assert [row[0].tokens for row in joint] == [row[0].tokens for row in plain]


@pytest.mark.parametrize("passages", [None, [[1, 2, 3, 1], [2, 1, 1, 2], [4, 5, 1, 2, 3]]])
def test_sampling_and_drafted_tokens_work_on_several_passages(passages) -> None:
    table = random_table(6, 1, 3)
    prompts = [[1], [2], [3]]
    found = []
    for draft in (None, lambda rows: [[1, 2]] * len(rows)):
        logits, state = table_prompt(table, prompts)
        first, joined = joint_passages(
            state, logits, [2, 1], end_id=END, passages=passages, drop_unanswering=False
        )
        found.append(
            generate(
                passages_step(table_step(table), end_id=END),
                joined,
                first,
                rule=Sample(seed=1, samples=3),
                end_id=END,
                maximum_length=6,
                draft=draft,
            )
        )
    assert found[0] == found[1]


def test_another_fusion_sees_only_the_passages_of_its_question() -> None:
    table = random_table(5, 1, 8)
    logits, state = table_prompt(table, [[1], [2], [3]])
    first, _ = joint_passages(
        state, logits, [2, 1], end_id=END, fusion=mean_probability, drop_unanswering=False
    )
    p = table.softmax(-1)
    expected = torch.stack([(p[1] + p[2]) / 2, p[3]]).log()
    torch.testing.assert_close(first, expected)


def test_agreement_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([1.62 / 2.8, 0.01 / 1.1, 0.0], dtype=torch.float64)
    torch.testing.assert_close(agreement(p.log()).exp(), expected)
    one = agreement(torch.tensor([[0.95]]).log()).exp()
    assert float(one) == pytest.approx(0.95**2 / 1.95) and expected[0] > float(one)


def test_mistakes_are_refused() -> None:
    state = TableState(torch.ones(2, 1, dtype=torch.long))
    with pytest.raises(UserError, match=r"expected first logits \[3, V\]"):
        joint_passages(state, torch.zeros(2, 4), [1, 2], end_id=END)
    with pytest.raises(UserError, match="expected 2 passages"):
        joint_passages(state, torch.zeros(2, 4), [2], end_id=END, passages=[[1]])
