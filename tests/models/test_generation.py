"""The decoding loop over the real model: cached = uncached, beam by beam, and a batch = one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from hanformer.decode import (
    AutomatonConstraint,
    Beam,
    Greedy,
    Hypothesis,
    JointState,
    Power,
    Sample,
    TableState,
    Trie,
    fuse,
    generate,
    joint_step,
    mean_probability,
)
from hanformer.decode.search import Rule
from hanformer.models import Transformer, load
from tests.harness import Rows, UncachedState, random_model, tiny_config

PROMPTS = [[1, 5, 6, 7, 2], [1, 9, 2], [1, 4, 4, 8, 10, 11, 3, 2]]
END, LONGEST = 2, 7
RULES: list[Rule] = [
    Greedy(),
    Beam(2, results=2),
    Beam(5, results=5, penalty=Power(0.0)),
    Beam(8, results=3),
    Sample(seed=3, samples=3),
]


def constraint(model: Transformer, prompts: int) -> AutomatonConstraint[int]:
    trie = Trie([[3, 4, 5], [3, 4], [6], [6, 7, 7, 7, 7], [8, 3, 4, 5, 6, 7]], END)
    return AutomatonConstraint(trie, [trie.root] * prompts, model.config.vocab_size)


def cached(
    model: Transformer, rule: Rule, constrained: bool, prompts: list[list[int]]
) -> list[list[Hypothesis]]:
    logits, state = model.prompt(prompts)
    allowed = constraint(model, len(prompts)) if constrained else None
    return generate(
        model.step, state, logits, rule=rule, end_id=END, maximum_length=LONGEST, constraint=allowed
    )


class _Uncached(UncachedState):
    """Rows are read from their beginning at every step."""

    def select(self, rows: Tensor) -> None:  # type: ignore[override]
        super().select(rows.tolist())


def uncached(
    model: Transformer, rule: Rule, constrained: bool, prompts: list[list[int]]
) -> list[list[Hypothesis]]:
    state = _Uncached(model, Rows(prompts, [[0] * len(prompt) for prompt in prompts]))
    allowed = constraint(model, len(prompts)) if constrained else None
    return generate(
        lambda tokens, state: state.step(tokens),
        state,
        state.logits(1)[:, 0],
        rule=rule,
        end_id=END,
        maximum_length=LONGEST,
        constraint=allowed,
    )


def same(first: list[list[Hypothesis]], second: list[list[Hypothesis]]) -> None:
    for ours, theirs in zip(first, second, strict=True):
        assert [(h.tokens, h.finished) for h in ours] == [(h.tokens, h.finished) for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-9)


@pytest.mark.parametrize("application", ["unilm", "lm"])
@pytest.mark.parametrize("position", ["learned", "rotary"])
@pytest.mark.parametrize("constrained", [False, True], ids=["free", "constrained"])
@pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: type(rule).__name__ + str(getattr(rule, "beams", ""))
)
def test_cached_is_uncached_and_batched_is_one_by_one(
    application: str, position: str, constrained: bool, rule: Rule
) -> None:
    if isinstance(rule, Sample) and constrained:
        rule = Sample(seed=4, samples=2)
    model = random_model(tiny_config(application=application, position=position))
    together = cached(model, rule, constrained, PROMPTS)
    same(together, uncached(model, rule, constrained, PROMPTS))
    if not isinstance(rule, Sample):  # draws depend on the row
        same(together, [cached(model, rule, constrained, [prompt])[0] for prompt in PROMPTS])


@pytest.mark.parametrize(
    "rule", [Greedy(), Beam(3, 3), Sample(samples=2)], ids=lambda rule: type(rule).__name__
)
def test_a_model_of_another_library_is_a_step_like_any_other(tmp_path: Path, rule: Rule) -> None:
    torch.manual_seed(3)
    config = transformers.GPT2Config(vocab_size=23, n_positions=40, n_embd=16, n_layer=2, n_head=2)
    other = transformers.GPT2LMHeadModel(config).eval()
    other.save_pretrained(tmp_path)
    model, prompts = load(tmp_path), torch.tensor([[4, 7, 5], [4, 9, 11]])

    def step(tokens: Tensor, state: TableState) -> Tensor:
        state.append(tokens)
        return other(state.tokens).logits[:, -tokens.shape[1] :]

    limits = {"rule": rule, "end_id": END, "maximum_length": LONGEST}
    first, theirs = other(prompts).logits[:, -1], TableState(prompts)
    own, ours = model.prompt(prompts.tolist())
    expected = generate(model.step, model.prompt(prompts.tolist())[1], own, **limits)
    alone = generate(step, TableState(prompts), first, **limits)
    steps, states = [step, model.step], JointState([theirs, ours])
    fused = fuse([first, own], mean_probability)
    together = generate(joint_step(steps, mean_probability), states, fused, **limits)
    for found in (alone, together):
        assert [[h.tokens for h in each] for each in found] == [[h.tokens for h in each] for each in expected]
