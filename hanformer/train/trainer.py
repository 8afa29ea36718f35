"""The training loop: groups of batches in, updates, validations and checkpoints out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from hanformer.data.batches import BatchSource
from hanformer.errors import UserError
from hanformer.train.averaging import averaged, make_average
from hanformer.train.checkpoint import (
    MemoryRun,
    Progress,
    RunFolder,
    TrainState,
    load_weights,
    random_state,
    restore_random_state,
    weights_of,
)
from hanformer.train.groups import Group, SizedBatches, groups_from
from hanformer.train.history import HISTORY_FILE, History, HistoryFile, Record
from hanformer.train.interrupt import Interruption
from hanformer.train.meter import Meter
from hanformer.train.objective import Objective
from hanformer.train.optim.adamw import adamw
from hanformer.train.optim.base import OptimizerFactory
from hanformer.train.optimizer import optimizer_state, parameter_groups, restore_optimizer
from hanformer.train.options import TrainOptions, check_same, to_json
from hanformer.train.plan import rate_multiplier, total_updates
from hanformer.train.precision import Precision
from hanformer.train.progress import Reporter, SilentReporter
from hanformer.train.step import backward, scale_and_clip
from hanformer.train.validation import Validation, judge, looking_only

Batch = TypeVar("Batch")


class Trainer(Generic[Batch]):
    """Trains a model on an objective; killed at any moment, it goes on as if it had never stopped.

    训练器：随时被中断都可以从训练目录继续，结果不变。

    model: trained in place, on the device where it is. objective: (model, batch) to Loss. source: batches by
    epoch. validate: model (averaged, in eval mode, without gradients) to metrics by name. run_folder: where
    `last/`, `best/` and history.jsonl are kept; without one nothing is written. size_of: tokens of a batch,
    for the rate (by default the loss's count). optimizer: makes the rule from parameter groups. accompany:
    writes what else `best/` needs to be a model folder. Random draws must come from torch for a resumed run
    to be the same.
    Raises UserError for an empty source and a model with nothing to learn.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Batch],
        source: BatchSource[Batch],
        options: TrainOptions,
        *,
        validate: Validation | None = None,
        run_folder: str | Path | None = None,
        reporter: Reporter | None = None,
        size_of: Callable[[Batch], int] | None = None,
        optimizer: OptimizerFactory = adamw,
        accompany: Callable[[Path], None] | None = None,
    ) -> None:
        self.model = model
        self.objective = objective
        self.source = source
        self.validate = validate
        self.size_of = size_of
        self.reporter: Reporter = reporter or SilentReporter()
        self.run = RunFolder(run_folder, accompany) if run_folder is not None else MemoryRun()
        self.progress = Progress()
        self.history = History()
        self._file = HistoryFile(Path(run_folder) / HISTORY_FILE if run_folder is not None else None)
        groups = parameter_groups(model, options.weight_decay, options.no_decay)
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.precision = Precision(options.precision, self.device)
        # The word that was chosen, so that a run never goes on in another number format.
        self.options = dataclasses.replace(options, precision=self.precision.word)
        self.optimizer = optimizer(groups, options)
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = make_average(
            options.average,
            self.parameters,
            decay=options.average_decay,
            count=options.average_count,
            every=options.average_every,
        )
        self._meter = Meter(gradients_too=not self.precision.may_overflow)
        self._batches = len(source.batches(0))
        self._total = total_updates(options, self._batches)

    def fit(self, *, resume: bool = False) -> History:
        """Trains to the end, and leaves the model in eval mode with the best (or else the averaged) weights.

        训练到结束；模型最终载入最佳（或平均）权重。

        resume: goes on from `last/`, or starts where there is none yet. The first Ctrl-C finishes the update,
        saves and raises KeyboardInterrupt.
        Raises UserError where the folder holds a run and resume is False, where the checkpoint, the options
        or the data do not fit, and where saving fails; NonFiniteLoss where the loss is not a number.
        """
        self._begin(resume)
        with Interruption() as interruption, closing(self.reporter):
            self.reporter.start(self._fraction())
            for group in self._groups():
                self._update(group)
                self._after_update(group)
                if interruption.requested:
                    self._break_off()
            self._finish()
        return self.history

    # Beginning and end

    def _begin(self, resume: bool) -> None:
        state = self.run.last()
        if state is not None and not resume:
            raise UserError(
                f"{self._place()} already holds a run ({state.progress.update} updates): "
                "resume it, or choose another folder"
            )
        torch.manual_seed(self.options.seed)
        if state is not None:
            self._restore(state)
        self._file.rewrite(self.history)
        now = time.monotonic()
        self._origin = now - self.progress.seconds
        self._saved_at = self._recorded_at = now
        self.model.train()

    def _finish(self) -> None:
        self._record()
        validated = self.history.validations[-1:]
        if self.validate is None:
            with averaged(self.parameters, self.average):
                self.run.save_best(weights_of(self.model), {"update": self.progress.update})
        elif not validated or validated[0].update != self.progress.update:
            self._validate(self.validate)
        self._save()
        weights = self.run.best()
        if weights is not None:
            load_weights(self.model, weights, self._place())
        self.model.eval()

    def _break_off(self) -> None:
        self._record()
        self._save()
        saved = f"saved in {self._place()}; resume to go on"
        kept = saved if isinstance(self.run, RunFolder) else "nothing saved"
        self.reporter.note(f"interrupted after update {self.progress.update}: {kept}")
        raise KeyboardInterrupt

    # One update

    def _groups(self) -> Iterator[Group[Batch]]:
        groups = groups_from(self.source, self.progress.epoch, self.progress.batch, self.options.accumulate)
        while not self._done():
            yield next(groups)

    def _update(self, group: Group[Batch]) -> None:
        self._set_rate()
        batches = SizedBatches(group, self.size_of)
        sums = backward(self.model, self.objective, batches, self.precision)
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        norm = scale_and_clip(self.parameters, sums.scale, self.options.clip_norm)
        self._meter.add(f"update {self.progress.update} ({group.place})", sums, norm, batches.size)
        # Looking waits for a GPU: there, a bad loss is found when the next record is due.
        if self.device.type == "cpu":
            self._meter.check()
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _after_update(self, group: Group[Batch]) -> None:
        progress, options = self.progress, self.options
        progress.update += 1
        progress.epoch, progress.batch = (
            (group.epoch + 1, 0) if group.ends_epoch else (group.epoch, group.stop)
        )
        progress.seconds = time.monotonic() - self._origin
        self.average.follow(progress.update)
        if progress.update % options.log_every == 0:
            self._record()
        if self.validate is not None and self._due(options.validate_every, group.ends_epoch):
            self._validate(self.validate)
        if self._due(options.checkpoint_every, group.ends_epoch) or self._overdue():
            self._save()

    def _due(self, every: int | None, ends_epoch: bool) -> bool:
        return ends_epoch if every is None else self.progress.update % every == 0

    def _overdue(self) -> bool:
        limit = self.options.checkpoint_seconds
        return limit is not None and time.monotonic() - self._saved_at >= limit

    def _done(self) -> bool:
        progress, options = self.progress, self.options
        reached = (
            (progress.update, options.updates),
            (progress.epoch, options.epochs),
            (progress.seconds, options.time_limit),
            (progress.validations_since_best, options.patience),
        )
        return any(limit is not None and value >= limit for value, limit in reached)

    # Rate and measure

    def _set_rate(self) -> None:
        multiplier = rate_multiplier(self.options, self.progress, self._total)
        for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * multiplier

    def _fraction(self) -> float:
        by_updates = self.progress.update / self._total if self._total else 0.0
        by_time = self.progress.seconds / self.options.time_limit if self.options.time_limit else 0.0
        return min(max(by_updates, by_time), 1.0)

    def _epochs(self) -> float:
        return self.progress.epoch + self.progress.batch / max(self._batches, 1)

    def _record(self) -> None:
        reading = self._meter.read()
        now = time.monotonic()
        if reading is not None:
            loss, norm, tokens = reading
            record = Record(
                update=self.progress.update,
                epoch=self._epochs(),
                seconds=self.progress.seconds,
                loss=loss,
                learning_rate=self.optimizer.param_groups[0]["lr"],
                gradient_norm=norm,
                tokens_per_second=tokens / max(now - self._recorded_at, 1e-9),
            )
            self._keep(record)
            self.reporter.trained(record, self._fraction())
        self._recorded_at = now

    def _keep(self, record: Record) -> None:
        self.history.add(record)
        self._file.append(record)

    def _validate(self, validate: Validation) -> None:
        began = time.monotonic()
        self._meter.check()
        with averaged(self.parameters, self.average), looking_only(self.model), self.precision.autocast():
            metrics = {name: float(value) for name, value in validate(self.model).items()}
            best = judge(metrics, self.options, self.progress)
            if best:
                self.run.save_best(weights_of(self.model), {"update": self.progress.update, **metrics})
        self.progress.seconds = time.monotonic() - self._origin
        record = Record(self.progress.update, self._epochs(), self.progress.seconds, metrics=metrics)
        self._keep(record)
        self.reporter.validated(record, best)
        self._leave_out(began)

    def _leave_out(self, began: float) -> None:
        # Validating and saving do not count in the tokens a second of training.
        self._recorded_at += time.monotonic() - began

    # State

    def _save(self) -> None:
        began = time.monotonic()
        self._meter.check()
        self.progress.seconds = began - self._origin
        self.run.save_last(self._state())
        self._saved_at = time.monotonic()
        self._leave_out(began)

    def _state(self) -> TrainState:
        tensors, plain = optimizer_state(self.optimizer)
        parts = {"optimizer": tensors, "average": self.average.state(), "random": random_state()}
        return TrainState(
            progress=dataclasses.replace(self.progress),
            weights=weights_of(self.model),
            tensors={
                f"{part}.{name}": value for part, named in parts.items() for name, value in named.items()
            },
            values={
                "options": self._choices(),
                "batches": self._batches,
                "optimizer": plain,
                "scaler": self.precision.scaler.state_dict(),
                "history": self.history.to_json(),
            },
        )

    def _restore(self, state: TrainState) -> None:
        place = self._place()
        check_same(state.values["options"], self._choices(), place)
        if state.values["batches"] != self._batches:
            raise UserError(
                f"{place}: the run had {state.values['batches']} batches in its first epoch, the data now "
                f"gives {self._batches}; resume with the same data, or start in another folder"
            )
        load_weights(self.model, state.weights, place)
        restore_optimizer(self.optimizer, state.part("optimizer"), state.values["optimizer"])
        self.average.restore(state.part("average"))
        self.precision.scaler.load_state_dict(state.values["scaler"])
        restore_random_state(state.part("random"))
        self.history = History.from_json(state.values["history"])
        self.progress = state.progress

    def _choices(self) -> dict[str, Any]:
        return {**to_json(self.options), "optimizer": type(self.optimizer).__name__}

    def _place(self) -> str:
        return str(self.run.folder) if isinstance(self.run, RunFolder) else "memory"
