"""Gibbs sampling: the exact stationary distribution of small joints, and masked language models."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hanformer.decode.gibbs import Gibbs, MaskedConditional, gibbs_sample, sample_masked
from hanformer.errors import UserError
from tests.harness import random_model, tiny_config
from tests.similarity.tiny import tiny_t5

SIZE, LENGTH = 3, 2


def joint(seed: int, length: int = LENGTH) -> Tensor:
    """A random distribution over all rows of so many tokens."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn((SIZE,) * length, generator=generator, dtype=torch.float64)
        .flatten()
        .softmax(0)
        .view((SIZE,) * length)
    )


def conditional_of(table: Tensor):
    """The exact conditionals of a joint."""

    def conditional(rows: Sequence[Sequence[int]], places: Sequence[int]) -> Tensor:
        found = []
        for row, place in zip(rows, places, strict=True):
            index = tuple(slice(None) if at == place else token for at, token in enumerate(row))
            found.append(table[index].log())
        return torch.stack(found)

    return conditional


def chi_square(counts: Counter, table: Tensor, total: int) -> float:
    cells = itertools.product(range(SIZE), repeat=table.dim())
    return sum(
        (counts[cell] - total * float(table[cell])) ** 2 / (total * float(table[cell])) for cell in cells
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_many_chains_end_in_the_stationary_distribution(seed: int) -> None:
    table, chains, steps = joint(seed), 1500, 16
    # From a bad start: all rows equal. The last states are independent of each other.
    found = gibbs_sample(
        conditional_of(table),
        [[0] * LENGTH] * chains,
        [range(LENGTH)] * chains,
        Gibbs(steps=steps, burn_in=steps - 1, seed=seed),
    )
    counts = Counter(states[-1] for states in found)
    assert chi_square(counts, table, chains) < 26.1  # 0.999 of chi-square with 8 degrees of freedom


def test_one_long_chain_visits_states_as_often_as_they_are_probable() -> None:
    table = joint(3)
    [states] = gibbs_sample(conditional_of(table), [[0, 0]], [[0, 1]], Gibbs(steps=5000, burn_in=100))
    shares = Counter(states)
    for cell in itertools.product(range(SIZE), repeat=LENGTH):
        assert shares[cell] / len(states) == pytest.approx(float(table[cell]), abs=0.035)


def test_a_fixed_place_gives_the_conditional_distribution() -> None:
    table, chains = joint(4, 3), 1000
    found = gibbs_sample(
        conditional_of(table),
        [[0, 2, 0]] * chains,
        [[0, 2]] * chains,
        Gibbs(steps=16, burn_in=15),
    )
    assert all(states[-1][1] == 2 for states in found)
    given = table[:, 2] / table[:, 2].sum()
    counts = Counter((states[-1][0], states[-1][2]) for states in found)
    assert chi_square(counts, given, chains) < 26.1


def test_draws_belong_to_row_and_step() -> None:
    rows, places = [[0, 1], [2, 2], [1, 1]], [[0, 1]] * 3
    whole = gibbs_sample(conditional_of(joint(5)), rows, places, Gibbs(steps=12, burn_in=2, every=5))
    assert [len(states) for states in whole] == [2, 2, 2]
    for number in range(3):
        chain = Gibbs(steps=12, burn_in=2, every=5, first_row=number)
        assert gibbs_sample(conditional_of(joint(5)), [rows[number]], [[0, 1]], chain) == [whole[number]]
    every = gibbs_sample(conditional_of(joint(5)), rows, places, Gibbs(steps=12, burn_in=0))
    assert [states[6] for states in every] == [states[0] for states in whole]
    assert gibbs_sample(conditional_of(joint(5)), [], [], Gibbs()) == []


PAD, CLS, SEP, MASK = 0, 1, 2, 3


def masked(**settings: object) -> MaskedConditional:
    model = random_model(tiny_config(max_positions=600), dtype=torch.float32)
    return MaskedConditional(model, MASK, (PAD, CLS, SEP), **settings)


def test_the_conditional_is_the_masked_model() -> None:
    conditional, rows, places = masked(temperature=2.0), [[1, 5, 6, 7, 2], [1, 8, 9, 2]], [2, 1]
    found = conditional(rows, places)
    for row, place, logits in zip(rows, places, found, strict=True):
        hidden = [MASK if at == place else token for at, token in enumerate(row)]
        # The special token 0 is a token here, not padding.
        expected = conditional.model(torch.tensor([hidden]), attention_mask=torch.ones(1, len(row)))
        torch.testing.assert_close(logits[4:].float(), expected.lm_logits[0, place, 4:].detach() / 2)
        assert logits[:4].isneginf().all()
    assert rows == [[1, 5, 6, 7, 2], [1, 8, 9, 2]]


def test_special_tokens_are_never_masked_nor_drawn() -> None:
    rows = [[CLS, MASK, MASK, MASK, SEP, PAD], [CLS, 5, 6, SEP, 7, SEP]]
    found = sample_masked(masked(), rows, Gibbs(steps=60, burn_in=30, seed=2))
    for row, states in zip(rows, found, strict=True):
        assert len(states) == 30 and len(set(states)) > 1
        for state in states:
            assert [t for t in state if t in (PAD, CLS, SEP)] == [t for t in row if t in (PAD, CLS, SEP)]
            assert MASK not in state


def test_long_texts() -> None:
    row = [CLS, *[4 + place % 19 for place in range(510)], SEP]
    [states] = sample_masked(masked(), [row], Gibbs(steps=3, burn_in=0))
    changed = [sum(a != b for a, b in zip(state, row, strict=True)) for state in states]
    assert len(states[-1]) == 512 and all(count <= step for step, count in enumerate(changed, start=1))
    with pytest.raises(UserError, match="positions must lie between 0 and 599"):
        sample_masked(masked(), [[CLS, *[5] * 700]], Gibbs(steps=1, burn_in=0))


@pytest.mark.parametrize(
    "logits", [[[math.nan, 0.0]], [[math.inf, 0.0]], [[-math.inf] * 2], [[0.0]] * 2, [[[0.0]]]]
)
def test_a_conditional_that_gives_no_distribution_is_refused(logits) -> None:
    with pytest.raises(UserError, match="expected"):
        gibbs_sample(lambda rows, places: torch.tensor(logits), [[0]], [[0]], Gibbs(steps=2, burn_in=0))


def test_mistakes_are_refused() -> None:
    with pytest.raises(UserError, match="row 1: expected a token that may be drawn"):
        sample_masked(masked(), [[1, 5, 2], [1, 2]], Gibbs(steps=1, burn_in=0))
    with pytest.raises(UserError, match=r"places in 0\.\.1, got 0 to 2"):
        gibbs_sample(conditional_of(joint(1)), [[0, 0]], [[0, 2]], Gibbs(steps=1, burn_in=0))
    with pytest.raises(UserError, match="places for each of 2 rows"):
        gibbs_sample(conditional_of(joint(1)), [[0, 0]] * 2, [[0]], Gibbs(steps=1, burn_in=0))
    for settings in ({"steps": 5, "burn_in": 5}, {"every": 0}, {"burn_in": -1}):
        with pytest.raises(UserError, match="steps >= burn_in"):
            Gibbs(**settings)
    for model in (random_model(tiny_config(application="lm")), random_model(tiny_config(), ()), tiny_t5()):
        with pytest.raises(UserError, match="needs a masked language model"):
            MaskedConditional(model, MASK)
    with pytest.raises(UserError, match=r"special tokens in 0\.\.22"):
        MaskedConditional(random_model(tiny_config()), 23)
    with pytest.raises(UserError, match="temperature above 0"):
        masked(temperature=0.0)
