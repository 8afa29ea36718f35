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
from hanformer.models.laid_out import lay_out
from hanformer.train.averaging import averaged, make_average
from hanformer.train.bad_batch import Moment, save_batches
from hanformer.train.checkpoint import FollowedRun, MemoryRun, Progress, RunFolder, TrainState
from hanformer.train.curves import with_curves
from hanformer.train.groups import Group, SizedBatches, groups_from
from hanformer.train.history import HISTORY_FILE, History, HistoryFile, Record
from hanformer.train.interrupt import Interruption
from hanformer.train.meter import Meter, NonFiniteLoss
from hanformer.train.objective import Objective
from hanformer.train.optim.adamw import adamw
from hanformer.train.optim.base import OptimizerFactory
from hanformer.train.optimizer import optimizer_state, parameter_groups, restore_optimizer
from hanformer.train.options import LATEST, TrainOptions, check_same, to_json
from hanformer.train.plan import (
    complaint_of_average,
    complaint_of_warm_up,
    rate_multiplier,
    total_updates,
)
from hanformer.train.precision import Precision
from hanformer.train.progress import Reporter, SilentReporter
from hanformer.train.recompute import recompute_blocks
from hanformer.train.step import backward, scale_and_clip
from hanformer.train.validation import UnknownMetric, Validation, judge, looking_only
from hanformer.train.workers import Workers

Batch = TypeVar("Batch")

#: Updates in a row that may be skipped for their loss: after these, the weights are the fault.
MOST_SKIPPED = 10


class Trainer(Generic[Batch]):
    """Trains a model on an objective; killed at any moment, it goes on as if it had never stopped.

    训练器：随时被中断都可以从训练目录继续，结果不变。

    model: trained in place, on the device where it is. objective: (model, batch) to Loss. source: batches by
    epoch. validate: model (averaged, in eval mode, without gradients) to metrics by name. run_folder: where
    `last/`, `best/` and history.jsonl are kept; without one nothing is written. size_of: tokens of a batch,
    for the rate (by default the loss's count). optimizer: makes the rule from parameter groups. accompany:
    writes what else `best/` needs to be a model folder. workers: the processes that share the run; each takes
    `accumulate` micro-batches of an update, and one of them writes. Random draws must come from torch for a resumed run
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
        workers: Workers | None = None,
    ) -> None:
        self.model = model
        self.workers = workers or Workers()
        self.objective = objective
        self.source = source
        self.validate = validate
        self.size_of = size_of
        self.reporter = self._leaders(reporter, options)
        self.folder = Path(run_folder) if run_folder is not None else None
        self.write_to(RunFolder(run_folder, accompany) if run_folder is not None else MemoryRun())
        self.progress = Progress()
        self.history = History()
        writes = self.folder is not None and self.workers.leads
        self._file = HistoryFile(self.folder / HISTORY_FILE if self.folder and writes else None)
        if options.recompute:
            recompute_blocks(model)
        lay_out(model)  # before there are optimizers and averages, which take their order from the weights
        groups = parameter_groups(model, options.weight_decay, options.no_decay)
        groups = self.workers.divide(model, groups)
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.precision = Precision(options.precision, self.device)
        # The word that was chosen, so that a run never goes on in another number format; and the micro-batches of
        # all workers, so that it may go on with another number of them.
        accumulate = options.accumulate * self.workers.size
        self.options = dataclasses.replace(options, precision=self.precision.word, accumulate=accumulate)
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
        self._total = total_updates(self.options, self._batches)
        self._skipped = 0
        if options.shard and self.workers.size > 1:
            self._check_sharding()

    def _check_sharding(self) -> None:
        if self.precision.may_overflow:
            raise UserError(
                "shard: fp16 with loss scaling needs whole gradients; use --set train.precision=bf16"
            )
        if self.folder is None:
            raise UserError("shard: what was best is kept in a folder; give run_folder")

    def write_to(self, run: RunFolder | MemoryRun) -> None:
        """Chooses where the run is kept; what does not lead only reads there."""
        self.run = run if self.workers.leads else FollowedRun(run)

    def _leaders(self, reporter: Reporter | None, options: TrainOptions) -> Reporter:
        if not self.workers.leads:
            return SilentReporter()
        return with_curves(reporter or SilentReporter(), options.tensorboard)

    def fit(self, *, resume: bool = False) -> History:
        """Trains to the end, and leaves the model in eval mode with the best (or else the averaged) weights.

        训练到结束；模型最终载入最佳（或平均）权重。

        resume: goes on from `last/`, or starts where there is none yet. The first Ctrl-C finishes the update,
        saves and raises KeyboardInterrupt.
        Raises UserError where the folder holds a run and resume is False, where the checkpoint, the options
        or the data do not fit, and where saving fails; NonFiniteLoss where the loss is not a number.
        """
        with self.workers.watched():
            self._begin(resume)
            with Interruption() as interruption, closing(self.reporter):
                self.reporter.start(self._fraction())
                for complaint_of in (complaint_of_warm_up, complaint_of_average):
                    if complaint := complaint_of(self.options, self._total):
                        self.reporter.note(f"note: {complaint}")
                try:
                    self._train(interruption)
                except NonFiniteLoss as error:
                    error.args = (f"{error}{self._kept(error.moment)}",)
                    raise
        return self.history

    def _train(self, interruption: Interruption) -> None:
        for group in self._groups():
            self._update(group)
            self._after_update(group)
            if self.workers.any(interruption.requested):
                self._break_off()
        self._finish()

    # Beginning and end

    def _begin(self, resume: bool) -> None:
        state = self.workers.first(self.run.last)
        if state is not None and not resume:
            raise UserError(
                f"{self._place()} already holds a run ({state.progress.update} updates): "
                "resume it, or choose another folder"
            )
        self.workers.seed(self.options.seed)
        if state is not None:
            self._restore(state)
        self._file.rewrite(self.history)
        now = time.monotonic()
        self._origin = now - self.progress.seconds
        self._recorded_at = now
        self._saved_at = self.progress.seconds
        self.model.train()

    def _finish(self) -> None:
        self._record()
        validated = self.history.validations[-1:]
        if self.validate is None:
            with averaged(self.parameters, self.average):
                self.run.save_best(self.workers.weights(self.model), {"update": self.progress.update})
        elif not validated or validated[0].update != self.progress.update or self._keeps_older():
            self._validate(self.validate)
        self._save()
        weights = self.workers.first(self.run.best)
        if weights is not None:
            self.workers.load(self.model, weights, self._place())
        self.model.eval()

    def _keeps_older(self) -> bool:
        """Whether the latest is wanted, by a run that had kept what was best before it was resumed."""
        return self.options.best_by == LATEST and self.progress.best_update != self.progress.update

    def _break_off(self) -> None:
        self._record()
        self._save()
        saved = f"saved in {self._place()}; resume to go on"
        kept = saved if self.folder is not None else "nothing saved"
        self.reporter.note(f"interrupted after update {self.progress.update}: {kept}")
        raise KeyboardInterrupt

    # One update

    def _groups(self) -> Iterator[Group[Batch]]:
        groups = groups_from(self.source, self.progress.epoch, self.progress.batch, self.options.accumulate)
        while not self._done():
            yield next(groups)

    def _update(self, group: Group[Batch]) -> None:
        self._set_rate()
        moment = Moment(self.progress.update, group)
        batches = SizedBatches(self.workers.share(group), self.size_of)
        rounds = self.workers.rounds(group, batches)
        sums = backward(self.model, self.objective, rounds, self.precision, self.workers)
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        norm = scale_and_clip(self.parameters, sums.scale, self.options.clip_norm, self.workers.norm)
        if self.options.bad_loss == "skip" and not self._meter.accepts(sums, norm):
            self._skip(moment)
            return
        self._skipped = 0
        self._meter.add(moment, sums, norm, batches.size)
        # Looking waits for a GPU: there, a bad loss is found when the next record is due.
        if self.device.type == "cpu":
            self._meter.check()
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _skip(self, moment: Moment) -> None:
        self._skipped += 1
        if self._skipped > MOST_SKIPPED:
            raise NonFiniteLoss(moment, f"the loss is not finite, as in the {MOST_SKIPPED} updates before")
        self.precision.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.reporter.note(f"{moment}: the loss is not finite; this update is skipped{self._kept(moment)}")

    def _kept(self, moment: Moment) -> str:
        if self.folder is None or not self.workers.leads:
            return ""
        return f"; its batches are saved in {save_batches(self.folder, moment)}"

    def _after_update(self, group: Group[Batch]) -> None:
        progress, options = self.progress, self.options
        progress.update += 1
        progress.epoch, progress.batch = (
            (group.epoch + 1, 0) if group.ends_epoch else (group.epoch, group.stop)
        )
        progress.seconds = self._elapsed()
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
        return limit is not None and self.progress.seconds - self._saved_at >= limit

    def _elapsed(self) -> float:
        return self.workers.same([time.monotonic() - self._origin])[0]

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
            if self.size_of is not None:
                tokens = float(self.workers.summed(torch.tensor(tokens, dtype=torch.float64)))
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
        try:
            metrics, best = self._looked(validate)
        except UnknownMetric as error:
            self._save()  # of the weights that learn: what was done so far is not lost
            raise UnknownMetric(f"{error}{self._advice()}") from None
        self.progress.seconds = self._elapsed()
        record = Record(self.progress.update, self._epochs(), self.progress.seconds, metrics=metrics)
        self._keep(record)
        self.reporter.validated(record, best)
        self._leave_out(began)

    def _looked(self, validate: Validation) -> tuple[dict[str, float], bool]:
        """What a validation gives, and whether it is the best so far; the weights are then kept."""
        with averaged(self.parameters, self.average), looking_only(self.model), self.precision.autocast():
            found = self.workers.look(self.model, validate)
            values = self.workers.same([float(value) for value in found.values()])
            metrics = dict(zip(found, values, strict=True))
            best = judge(metrics, self.options, self.progress)
            if best:
                weights = self.workers.weights(self.model)
                self.run.save_best(weights, {"update": self.progress.update, **metrics})
        return metrics, best

    def _advice(self) -> str:
        return "" if self.folder is None else f"; saved in {self._place()}: name one of them and resume"

    def _leave_out(self, began: float) -> None:
        # Validating and saving do not count in the tokens a second of training.
        self._recorded_at += time.monotonic() - began

    # State

    def _save(self) -> None:
        began = time.monotonic()
        self._meter.check()
        self.progress.seconds = self._elapsed()
        self.run.save_last(self._state())
        self._saved_at = self.progress.seconds
        self._leave_out(began)

    def _state(self) -> TrainState:
        tensors, plain = optimizer_state(self.optimizer)
        parts = {
            "optimizer": self.workers.whole(tensors, 0),
            "average": self.workers.whole(self.average.state(), -1),
            "random": self.workers.random_state(),
        }
        return TrainState(
            progress=dataclasses.replace(self.progress),
            weights=self.workers.weights(self.model),
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
        self.workers.load(self.model, state.weights, place)
        tensors = self.workers.part(state.part("optimizer"), 0)
        restore_optimizer(self.optimizer, tensors, state.values["optimizer"])
        self.average.restore(self.workers.part(state.part("average"), -1))
        self.precision.scaler.load_state_dict(state.values["scaler"])
        self.workers.restore_random_state(state.part("random"))
        self.history = History.from_json(state.values["history"])
        self.progress = state.progress

    def _choices(self) -> dict[str, Any]:
        return {**to_json(self.options), "optimizer": type(self.optimizer).__name__}

    def _place(self) -> str:
        return "memory" if self.folder is None else str(self.folder)
