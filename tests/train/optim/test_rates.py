"""Rates by name and by depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.train.optim.rates import rates_by_depth, rates_by_name, with_rates
from hanformer.train.optimizer import parameter_groups, rule_named
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from tests.harness.material import random_model, tiny_config
from tests.harness.optimizers import OPTIONS, groups_of, small_model, take_steps
from tests.train.tiny import TinySource, objective, tiny_model


def by_name(model: nn.Module, rates: dict[torch.Tensor, float]) -> dict[str, float]:
    return {name: rates[parameter] for name, parameter in model.named_parameters()}


def test_multipliers_whose_words_match_are_multiplied() -> None:
    model = tiny_model()
    found = by_name(model, rates_by_name(model, {"norm": 0.5, "bias": 4.0, "embed": 0.0}))
    assert found == {
        "embedding.weight": 0.0,
        "norm.weight": 0.5,
        "norm.bias": 2.0,
        "hidden.weight": 1.0,
        "hidden.bias": 4.0,
    }


def test_rates_by_depth() -> None:
    model = random_model(tiny_config(), heads=("lm",))
    found = by_name(model, rates_by_depth(model, 0.5))
    for name, rate in found.items():
        expected = {"embeddings": 1 / 8, "lm_head": 1.0}.get(name.split(".")[0])
        assert rate == (expected or {"0": 1 / 4, "1": 1 / 2}[name.split(".")[2]]), name
    assert set(rates_by_depth(model, 1.0).values()) == {1.0}


@pytest.mark.parametrize("name", ["adamw", "adaxw", "lion", "muon", "lookahead+tiger"])
def test_each_parameter_moves_at_its_rate(name: str) -> None:
    """As it does where all have that rate."""
    model, slow, fast = small_model(), small_model(), small_model()
    rates = dict.fromkeys(list(model.parameters())[:3], 0.5)
    mixed = with_rates(rule_named(name), rates)(groups_of(model), OPTIONS)
    halves = [{**group, "lr": OPTIONS.learning_rate / 2} for group in groups_of(slow)]
    take_steps(list(model.parameters()), [mixed], 4)
    take_steps(list(slow.parameters()), [rule_named(name)(halves, OPTIONS)], 4)
    take_steps(list(fast.parameters()), [rule_named(name)(groups_of(fast), OPTIONS)], 4)
    expected = [*list(slow.parameters())[:3], *list(fast.parameters())[3:]]
    for ours, theirs in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.equal(slow[0].weight, fast[0].weight)


def test_in_the_trainer_with_a_schedule() -> None:
    model = tiny_model()
    before = model.embedding.weight.detach().clone()
    rule = with_rates(rule_named("adaxw"), rates_by_name(model, {"embedding": 0.0}))
    options = TrainOptions(updates=6, learning_rate=0.05, warm_up=2)
    Trainer(model, objective, TinySource(), options, optimizer=rule).fit()
    assert torch.equal(model.embedding.weight, before)
    assert sum(len(group["params"]) for group in parameter_groups(model, 0.0, ())) == 5


def test_what_cannot_be_meant_is_refused() -> None:
    model = tiny_model()
    with pytest.raises(UserError, match="'nothing': no parameter has that in its name"):
        rates_by_name(model, {"nothing": 1.0})
    with pytest.raises(UserError, match="expected a multiplier of 0 or more, got -1"):
        rates_by_name(model, {"norm": -1.0})
    with pytest.raises(UserError, match="above 0 and up to 1, got 0"):
        rates_by_depth(model, 0.0)
    with pytest.raises(UserError, match="no numbered blocks"):
        rates_by_depth(model, 0.9)
