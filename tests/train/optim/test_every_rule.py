"""The shared checks on every rule by name, and on wrapped ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.train.optim.adafactor import AdaFactor
from hanformer.train.optim.base import CPU_PIECE
from hanformer.train.optim.moments import AdaX, UncorrectedAdam
from hanformer.train.optim.signs import Lion, Tiger
from hanformer.train.optim.wrappers import LayerAdaptation, LazyRows, Lookahead
from hanformer.train.optimizer import RULES, rule_named
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from tests.harness.optimizers import OPTIONS, check_optimizer, groups_of, small_model
from tests.train.optim import naive
from tests.train.optim.traces import assert_traces, random_case, trace
from tests.train.tiny import TinyBatch, TinySource, objective, same_weights, tiny_model

RATES = {
    "adax": 0.2,
    "adaxw": 0.2,
    "adafactor": 0.15,
    "muon": 0.2,
    "lookahead+lion": 0.15,
    "lazy+adax": 0.2,
    "lookahead+lazy+muon": 0.2,
    "lookahead+adafactor": 0.15,
}
WRAPPED = ["lookahead+lion", "lazy+adax", "layerwise+tiger", "lookahead+lazy+muon", "lookahead+adafactor"]


@pytest.mark.parametrize("name", [*RULES, *WRAPPED])
def test_it_is_sound(name: str) -> None:
    check_optimizer(rule_named(name), RATES.get(name, 0.05))


def test_the_first_word_is_outermost() -> None:
    made = rule_named("lookahead+layerwise+lazy+adamw")(groups_of(small_model()), OPTIONS)
    kinds = []
    while isinstance(made, (Lookahead, LayerAdaptation, LazyRows)):
        kinds.append(type(made))
        made = made.inner
    assert kinds == [Lookahead, LayerAdaptation, LazyRows] and isinstance(made, torch.optim.AdamW)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sgdm", "adamw, muon, .*, got 'sgdm'"),
        ("lookahead", "got 'lookahead'"),
        ("slow+adamw", "before a [+] expected one of lookahead, layerwise, lazy, got 'slow'"),
        ("", "got ''"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rule_named(name)


@pytest.mark.parametrize("name", ["adaxw", "lookahead+tiger"])
def test_a_run_that_was_cut_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    def trainer(model: nn.Module, updates: int, folder: Path | None) -> Trainer[TinyBatch]:
        options = TrainOptions(updates=updates, learning_rate=0.01, accumulate=2, schedule="constant")
        rule = rule_named(name)
        return Trainer(model, objective, TinySource(), options, optimizer=rule, run_folder=folder)

    whole, cut = tiny_model(), tiny_model()
    trainer(whole, 9, None).fit()
    trainer(cut, 4, tmp_path).fit()
    resumed = tiny_model(seed=5)
    trainer(resumed, 9, tmp_path).fit(resume=True)
    assert same_weights(whole, resumed) and not same_weights(whole, cut)


def test_wrong_numbers_are_refused() -> None:
    def groups() -> list[dict[str, object]]:
        return [{"params": [nn.Parameter(torch.ones(2))]}]

    for make in (
        lambda: AdaX(groups(), growth=0.0),
        lambda: AdaX(groups(), beta=1.0),
        lambda: UncorrectedAdam(groups(), betas=(0.9, 1.5)),
        lambda: Lion(groups(), betas=(-0.1, 0.9)),
        lambda: Tiger(groups(), accumulate=0),
        lambda: AdaFactor(groups(), beta=1.0),
        lambda: Lookahead(Lion(groups()), every=0),
    ):
        with pytest.raises(UserError, match="expected"):
            make()


def test_what_is_cut_into_pieces_moves_as_a_whole() -> None:
    """Weights of more than one piece, and of none."""
    start, gradients = random_case(400, 500, updates=3)
    assert start.numel() > CPU_PIECE
    expected = {
        Lion: naive.lion(start, gradients, 0.05, decay=0.1),
        AdaFactor: naive.adafactor(start, gradients, 0.05, axes=(0, 1), decay=0.1),
    }
    for kind, weights in expected.items():
        assert_traces(trace(lambda g, kind=kind: kind(g, 0.05), start, gradients, decay=0.1), weights)
    found = trace(lambda g: LayerAdaptation(Lion(g, 0.05)), start, gradients[:1])
    assert_traces(found, [naive.adapted(start, naive.lion(start, gradients[:1], 0.05), 0.05)])
    for name in RULES:
        empty = trace(lambda g, name=name: rule_named(name)(g, OPTIONS), torch.ones(0, 3), [torch.ones(0, 3)])
        assert empty[0].shape == (0, 3)
