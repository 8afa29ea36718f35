"""Naive decoding with Python lists: what the batched rules must equal, and all sequences of a small world.

Search is compared on timed tables, logits[t, last token, next token]: in a plain Markov table two sequences
that use the same transitions in another order tie exactly, in a timed one no two sequences do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hanformer.decode import Constraint, Hypothesis, Rule, TableState, generate, table_prompt, table_step

END = 0


def random_table(size: int, order: int, seed: int, spread: float = 1.5) -> Tensor:
    """Logits of a Markov model of the given order."""
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn((size,) * (order + 1), generator=generator, dtype=torch.float64)


def timed_table(length: int, size: int, seed: int) -> Tensor:
    """Logits [T, V, V] of a model whose next token depends on the step and on the last token."""
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(length, size, size, generator=generator, dtype=torch.float64)


def decode(
    table: Tensor,
    prompts: Sequence[Sequence[int]],
    rule: Rule,
    maximum_length: int,
    *,
    end_id: int = END,
    constraint: Constraint | None = None,
    minimum_length: int = 0,
) -> list[list[Hypothesis]]:
    """`generate` over a Markov table."""
    logits, state = table_prompt(table, prompts)
    return generate(
        table_step(table),
        state,
        logits,
        rule=rule,
        end_id=end_id,
        maximum_length=maximum_length,
        constraint=constraint,
        minimum_length=minimum_length,
    )


def decode_timed(
    table: Tensor,
    prompts: Sequence[int],
    rule: Rule,
    *,
    constraint: Constraint | None = None,
    renormalise: bool = False,
) -> list[list[Hypothesis]]:
    """`generate` over a timed table to its last step; a prompt is one token."""

    def step(tokens: Tensor, state: TableState) -> Tensor:
        state.append(tokens)
        return table[state.length][tokens]

    return generate(
        step,
        TableState(torch.tensor(prompts)[:, None]),
        table[0, list(prompts)],
        rule=rule,
        end_id=END,
        maximum_length=len(table),
        constraint=constraint,
        minimum_length=0,
        renormalise=renormalise,
    )


def log_probability(table: Tensor, prompt: int, tokens: Sequence[int]) -> float:
    """The sum of log p of the tokens after the prompt, in a timed table of log-probabilities."""
    pairs = zip([prompt, *tokens[:-1]], tokens, strict=True)
    return sum(float(table[t, last, token]) for t, (last, token) in enumerate(pairs))


def finished_sequences(size: int, maximum_length: int) -> list[tuple[int, ...]]:
    """All sequences that end with the end token within the maximum length."""
    others = [token for token in range(size) if token != END]
    lengths = range(maximum_length)
    return [(*body, END) for length in lengths for body in itertools.product(others, repeat=length)]


def naive_beam(
    table: Tensor,
    prompt: int,
    beams: int,
    penalty: Callable[[int], float],
    allowed: Callable[[tuple[int, ...], int], bool] = lambda tokens, token: True,
) -> list[tuple[tuple[int, ...], float, bool]]:
    """Beam search that never stops early: (tokens with their end, score, finished), best first."""
    scores = table.log_softmax(-1).tolist()
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    pool: list[tuple[tuple[int, ...], float]] = []
    for after in scores:
        extended = [
            ((*tokens, token), total + after[tokens[-1] if tokens else prompt][token])
            for tokens, total in live
            for token in range(len(after))
            if allowed(tokens, token)
        ]
        extended.sort(key=lambda pair: -pair[1])
        pool += [pair for pair in extended[:beams] if pair[0][-1] == END]
        live = [pair for pair in extended if pair[0][-1] != END][:beams]
    entries = [(tokens, total / penalty(len(tokens)), tokens[-1] == END) for tokens, total in pool + live]
    return sorted(entries, key=lambda entry: (not entry[2], -entry[1]))[:beams]


def naive_bert4keras(
    table: Tensor, prompt: int, beams: int, ends: int, shortest: int
) -> tuple[tuple[int, ...], float, bool]:
    """bert4keras' rule: the beam narrows by each complete hypothesis that is not the best."""
    probabilities = table.softmax(-1).tolist()
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for after in probabilities:
        extended = [
            ((*tokens, token), total + math.log(p + 1e-12))
            for tokens, total in live
            for token, p in enumerate(after[tokens[-1] if tokens else prompt])
        ]
        live = sorted(extended, key=lambda pair: -pair[1])[:beams]
        if len(live[0][0]) >= shortest:
            complete = [tokens[-1] == END and tokens.count(END) >= ends for tokens, _ in live]
            if complete[0]:
                return (*live[0], True)
            live = [pair for pair, whole in zip(live, complete, strict=True) if not whole]
            beams -= sum(complete)
    return (*live[0], False)


def same(hypothesis: Hypothesis, tokens: Sequence[int], score: float, finished: bool) -> bool:
    """Whether a hypothesis equals an entry of the naive search."""
    whole = (*hypothesis.tokens, END) if hypothesis.finished else hypothesis.tokens
    close = math.isclose(hypothesis.score, score, rel_tol=1e-9, abs_tol=1e-9)
    return whole == tuple(tokens) and close and hypothesis.finished == finished
