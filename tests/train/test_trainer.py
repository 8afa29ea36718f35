from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train import trainer as trainer_module
from hanformer.train.groups import groups_from
from hanformer.train.history import History, Record
from hanformer.train.meter import NonFiniteLoss
from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.plan import total_updates
from hanformer.train.progress import SilentReporter
from hanformer.train.trainer import Trainer
from tests.train.tiny import SameSource, TinyBatch, TinySource, objective, same_weights, tiny_model


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves a tenth of a second each time it is read."""
    ticks = itertools.count()
    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: next(ticks) / 10)


def test_equals_a_loop_by_hand() -> None:
    """AdamW, clipping and a linear schedule, written out."""
    options = TrainOptions(updates=12, learning_rate=0.02, warm_up=4, weight_decay=0.1, clip_norm=0.5)
    model, twin = tiny_model(), tiny_model()
    Trainer(model, objective, TinySource(), options).fit()
    matrices = [twin.embedding.weight, twin.hidden.weight]
    vectors = [twin.norm.weight, twin.norm.bias, twin.hidden.bias]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], foreach=False
    )
    batches = [batch for epoch in range(3) for batch in TinySource().batches(epoch)]
    for update in range(12):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * min((update + 1) / 4, (12 - update) / 8)
        optimizer.zero_grad()
        loss = objective(twin, batches[update])
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
    for left, right in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-5)


def test_learns_and_records() -> None:
    torch.manual_seed(1)
    source = SameSource([(torch.arange(11), (torch.arange(11) + 1) % 11)])
    model = tiny_model()
    history = Trainer(model, objective, source, TrainOptions(updates=150, learning_rate=0.05)).fit()
    assert history.training[0].loss > 0.8 > 0.3 > history.last_loss  # type: ignore[operator]
    assert [record.update for record in history.training] == list(range(10, 151, 10))
    assert history.training[-1].epoch == 150.0
    assert all(record.tokens_per_second for record in history.training)
    assert not model.training
    assert (model(torch.arange(11)).argmax(-1) == (torch.arange(11) + 1) % 11).all()


def test_recorded_loss_is_the_mean_over_tokens_of_the_window(ticking: None) -> None:
    model = tiny_model()
    batches = TinySource().batches(0)
    expected = sum(float(objective(model, b).total.detach()) for b in batches) / sum(
        len(b[0]) for b in batches
    )
    options = TrainOptions(updates=5, learning_rate=1e-12, log_every=5)
    sized = Trainer(model, objective, SameSource(batches), options, size_of=lambda batch: 1000).fit()
    assert sized.last_loss == pytest.approx(expected, rel=1e-5)
    speed, seconds = sized.training[0].tokens_per_second, sized.training[0].seconds
    assert speed == pytest.approx(5000 / seconds, rel=0.2)  # type: ignore[operator]


def test_epochs_end_with_their_last_batch() -> None:
    seen: list[int] = []

    def watched(model: nn.Module, batch: TinyBatch) -> Loss:
        seen.append(len(batch[0]))
        return objective(model, batch)

    trainer = Trainer(tiny_model(), watched, TinySource(), TrainOptions(epochs=2, accumulate=2))
    trainer.fit()
    assert seen == [5, 2, 7, 1, 4] * 2
    assert trainer.progress.update == 6 and trainer.progress.epoch == 2


def test_groups_start_anywhere() -> None:
    groups = groups_from(TinySource(), 1, 4, 2)
    found = [next(groups) for _ in range(4)]
    assert [(g.epoch, g.start, g.stop, g.ends_epoch) for g in found] == [
        *[(1, 4, 5, True), (2, 0, 2, False), (2, 2, 4, False), (2, 4, 5, True)]
    ]
    assert found[1].place == "epoch 2, batches 0 to 1"


def test_total_updates() -> None:
    assert total_updates(TrainOptions(epochs=3, accumulate=2), 5) == 9
    assert total_updates(TrainOptions(epochs=3, updates=4), 5) == 4
    assert total_updates(TrainOptions(time_limit=1.0), 5) is None


def test_empty_source_and_frozen_model() -> None:
    with pytest.raises(UserError, match="training data is empty"):
        Trainer(tiny_model(), objective, SameSource([]), TrainOptions(updates=1)).fit()
    with pytest.raises(UserError, match="unfreeze"):
        Trainer(tiny_model().requires_grad_(False), objective, TinySource(), TrainOptions(updates=1))


def test_frozen_parameters_stay() -> None:
    model = tiny_model()
    model.hidden.requires_grad_(False)
    kept = model.hidden.weight.clone()
    Trainer(model, objective, TinySource(), TrainOptions(updates=3, average="ema")).fit()
    assert torch.equal(model.hidden.weight, kept)
    assert not same_weights(model, tiny_model())


def metrics_in_turn(values: list[float]) -> Iterator[dict[str, float]]:
    yield from ({"score": value} for value in values)


def test_early_stopping_keeps_the_best(tmp_path: Path) -> None:
    scores = iter([0.2, 0.7, float("nan"), 0.6, 0.9])
    weights: list[Tensor] = []

    def validate(model: nn.Module) -> dict[str, float]:
        assert not model.training and not torch.is_grad_enabled()
        weights.append(model.state_dict()["hidden.weight"].clone())
        return {"score": next(scores)}

    model = tiny_model()
    options = TrainOptions(
        updates=100, validate_every=3, patience=2, best_by="score", higher_is_better=True, average="ema"
    )
    trainer = Trainer(model, objective, TinySource(), options, validate=validate, run_folder=tmp_path)
    history = trainer.fit()
    assert trainer.progress.update == 12 and trainer.progress.best_update == 6
    assert [record.update for record in history.validations] == [3, 6, 9, 12]
    assert torch.equal(model.hidden.weight, weights[1])
    assert '"score": 0.7' in (tmp_path / "best" / "metrics.json").read_text()


def test_validation_leaves_no_trace_in_training() -> None:
    losses = iter([4.0, 3.0, 2.0, 1.0])

    def validate(model: nn.Module) -> dict[str, float]:
        torch.rand(3)
        return {"loss": next(losses)}

    plain, looked = tiny_model(0, 0.4), tiny_model(0, 0.4)
    Trainer(plain, objective, TinySource(), TrainOptions(updates=7)).fit()
    options = TrainOptions(updates=7, validate_every=2, best_by="loss")
    trainer = Trainer(looked, objective, TinySource(), options, validate=validate)
    trainer.fit()
    assert same_weights(plain, looked)


def test_the_latest_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    options = TrainOptions(updates=5, validate_every=2, best_by="latest", average="ema")
    for name, losses in (("better", [1.0, 0.5, 0.2]), ("worse", [1.0, 2.0, math.nan])):
        values = metrics_in_turn(losses)
        Trainer(
            *(tiny_model(), objective, TinySource(), options),
            validate=lambda _, values=values: next(values),
            run_folder=tmp_path / name,
        ).fit()
        kept = json.loads((tmp_path / name / "best" / "metrics.json").read_text())
        assert kept["update"] == 5
    with pytest.raises(UserError, match="name a metric in best_by"):
        replace(options, patience=2)


def test_a_finished_run_that_goes_on_may_ask_for_the_latest(tmp_path: Path) -> None:
    options = TrainOptions(updates=4, validate_every=2, best_by="score")
    for chosen, losses, kept in ((options, [1.0, 2.0], 2), (replace(options, best_by="latest"), [2.0], 4)):
        values = metrics_in_turn(losses)
        Trainer(
            *(tiny_model(), objective, TinySource(), chosen),
            validate=lambda _, values=values: next(values),
            run_folder=tmp_path,
        ).fit(resume=True)
        assert json.loads((tmp_path / "best" / "metrics.json").read_text())["update"] == kept


def test_a_metric_that_is_not_there_loses_nothing(tmp_path: Path) -> None:
    """What was trained before the first validation is saved, and a run that goes on with a right name ends as one
    that had it from the beginning."""
    right = TrainOptions(updates=6, validate_every=3, best_by="score", average="ema")

    def trained(options: TrainOptions, folder: Path, resume: bool = False) -> nn.Module:
        model = tiny_model(0, 0.4)
        values = metrics_in_turn([1.0, 0.5])
        Trainer(
            *(model, objective, TinySource(), options),
            validate=lambda _: next(values),
            run_folder=folder,
        ).fit(resume=resume)
        return model

    with pytest.raises(
        UserError, match=r"gives score; expected one of these, got 'sc0re'; saved in .*: name one"
    ):
        trained(replace(right, best_by="sc0re"), tmp_path / "cut")
    assert not (tmp_path / "cut" / "best").exists()
    assert same_weights(trained(right, tmp_path / "cut", resume=True), trained(right, tmp_path / "whole"))


def test_missing_metric() -> None:
    trainer = Trainer(
        tiny_model(),
        objective,
        TinySource(),
        TrainOptions(updates=1),
        validate=lambda model: {"accuracy": 1.0},
    )
    with pytest.raises(UserError, match="gives accuracy.*got 'loss'"):
        trainer.fit()


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_non_finite_stops_with_the_last_checkpoint_whole(tmp_path: Path, what: str) -> None:
    calls = 0

    def breaking(model: nn.Module, batch: TinyBatch) -> Loss:
        nonlocal calls
        calls += 1
        loss = objective(model, batch)
        if calls < 6:
            return loss
        if what == "loss":
            return Loss(loss.total * float("nan"), loss.count)
        return Loss(loss.total + (model.hidden.weight * 0.0).sum().sqrt(), loss.count)  # type: ignore[union-attr,operator]

    options = TrainOptions(updates=10, checkpoint_every=4, accumulate=1)
    model = tiny_model()
    trainer = Trainer(model, breaking, TinySource(), options, run_folder=tmp_path)
    with pytest.raises(NonFiniteLoss, match=rf"update 5 \(epoch 1, batches 0 to 0\): the {what} is nan"):
        trainer.fit()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    state = trainer.run.last()
    assert state is not None and state.progress.update == 4
    assert all(weight.isfinite().all() for weight in state.weights.values())


def test_time_limit_ends_the_run_and_decays_by_time(ticking: None) -> None:
    options = TrainOptions(time_limit=10.0, learning_rate=0.01, log_every=1)
    history = Trainer(tiny_model(), objective, TinySource(), options).fit()
    assert 9.0 <= history.records[-1].seconds < 12.0
    rates = [record.learning_rate or 0.0 for record in history.training]
    assert len(rates) > 10 and all(later <= earlier for earlier, later in pairwise(rates))
    assert rates[0] > 0.009 and rates[-1] < 0.001


def test_averaged_weights_are_what_a_run_without_validation_leaves() -> None:
    plain, mean = tiny_model(), tiny_model()
    Trainer(plain, objective, TinySource(), TrainOptions(updates=8)).fit()
    options = TrainOptions(updates=8, average="last", average_count=1, average_every=4)
    Trainer(mean, objective, TinySource(), options).fit()
    assert same_weights(plain, mean)


def test_another_rule() -> None:
    def plain_descent(groups: list[dict[str, object]], options: TrainOptions) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=options.learning_rate)

    model, twin = tiny_model(), tiny_model()
    options = TrainOptions(updates=1, schedule="constant", clip_norm=None, weight_decay=0.0)
    Trainer(model, objective, TinySource(), options, optimizer=plain_descent).fit()
    loss = objective(twin, TinySource().batches(0)[0])
    (loss.total / loss.count).backward()
    for left, right in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(left, right - 1e-3 * right.grad)  # type: ignore[operator]


def test_bfloat16_trains_close_to_fp32() -> None:
    losses = []
    for word in ("fp32", "bf16"):
        source = SameSource([(torch.arange(11), (torch.arange(11) + 1) % 11)])
        model = tiny_model()
        options = TrainOptions(updates=60, learning_rate=0.05, precision=word)
        losses.append(Trainer(model, objective, source, options).fit().last_loss)
        assert model.hidden.weight.dtype == torch.float32
    assert losses[1] == pytest.approx(losses[0], abs=0.3) and losses[1] != losses[0]


class Listener(SilentReporter):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def start(self, fraction: float) -> None:
        self.heard.append(f"start {fraction}")

    def trained(self, record: Record, fraction: float) -> None:
        self.heard.append(f"trained {record.update} {fraction:.1f}")

    def validated(self, record: Record, best: bool) -> None:
        self.heard.append(f"validated {record.update} {best}")

    def close(self) -> None:
        self.heard.append("close")


def test_the_reporter_hears_everything_in_order() -> None:
    listener = Listener()
    values = metrics_in_turn([2.0, 3.0])
    options = TrainOptions(updates=5, validate_every=4, log_every=2, best_by="score")
    history = Trainer(
        tiny_model(), objective, TinySource(), options, validate=lambda model: next(values), reporter=listener
    ).fit()
    assert listener.heard == [
        *["start 0.0", "trained 2 0.4", "trained 4 0.8", "validated 4 True", "trained 5 1.0"],
        *["validated 5 False", "close"],
    ]
    assert isinstance(history, History)


def test_a_warm_up_longer_than_the_run_is_noted() -> None:
    class Notes(SilentReporter):
        def note(self, text: str) -> None:
            told.append(text)

    told: list[str] = []
    for warm_up in (1, 9):
        options = TrainOptions(updates=4, warm_up=warm_up)
        Trainer(tiny_model(), objective, TinySource(), options, reporter=Notes()).fit()
    assert len(told) == 1 and told[0].startswith("note: warm_up=9 takes more than half of the 4 updates")
