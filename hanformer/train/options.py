"""The options of a training run, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hanformer.errors import UserError
from hanformer.train.averaging import AVERAGES
from hanformer.train.schedule import DECAYS

# What may differ when a run is resumed: when to stop, look, save and write. All else changes the weights.
FREE_ON_RESUME = frozenset(
    {"updates", "epochs", "time_limit", "validate_every", "patience", "checkpoint_every"}
    | {"checkpoint_seconds", "log_every", "best_by", "higher_is_better"}
    | {"bad_loss", "recompute", "shard", "tensorboard"}
)
BAD_LOSSES = ("stop", "skip")
#: The word of `best_by` for the latest validation, whatever it gives.
LATEST = "latest"


@dataclass(frozen=True)
class TrainOptions:
    """How a run trains; every count is in updates (optimiser steps), every time in seconds.

    训练选项；计数单位为更新次数，时间单位为秒。

    Length: `updates`, `epochs`, `time_limit`; the first that is reached ends the run, one is required.
    Rate: `learning_rate` times `schedule` (constant, linear, cosine: `warm_up` updates up, then down to
    `final_rate` times the rate; or piecewise: the line from (0, 0) through `knots`, pairs (update, multiplier)). With
    `time_limit` the decay follows the time used where that is ahead of the updates, unless `decay_by_time` is
    False; such a run cannot be repeated bit for bit.
    Rule: AdamW with `betas`, `epsilon`, `weight_decay` (not on the kinds in `no_decay`: bias, norm,
    embedding); gradients clipped to the global norm `clip_norm` (None: not); `accumulate` micro-batches an
    update.
    Averages: `average` none, ema (`average_decay`) or last (`average_count` snapshots, one each
    `average_every`).
    Validation: each `validate_every` updates (None: after each epoch); the best by the metric `best_by` is
    kept (latest: what the last validation saw); `patience` validations without a better one end the run.
    Checkpoints: each `checkpoint_every` updates (None: after each epoch), each `checkpoint_seconds` (None:
    never), and at the end. They do not change what is computed.
    Bad losses: `bad_loss` stop (the batches that did it are saved), or skip (so is the update, ten in a row at most).
    Size: `recompute` keeps the input of each block alone and computes the rest again on the way back; `shard`
    divides weights, gradients and the optimiser's state among the workers. Gradients stay the same.
    `tensorboard` is a folder for TensorBoard's curves (empty: none).
    Raises UserError for values that make no sense.
    """

    updates: int | None = None
    epochs: int | None = None
    time_limit: float | None = None
    learning_rate: float = 1e-3
    schedule: str = "linear"
    warm_up: int = 0
    final_rate: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    decay_by_time: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    no_decay: tuple[str, ...] = ("bias", "norm")
    clip_norm: float | None = 1.0
    accumulate: int = 1
    average: str = "none"
    average_decay: float = 0.999
    average_count: int = 5
    average_every: int = 100
    precision: str = "auto"
    seed: int = 0
    validate_every: int | None = None
    best_by: str = "loss"
    higher_is_better: bool = False
    patience: int | None = None
    checkpoint_every: int | None = None
    checkpoint_seconds: float | None = 300.0
    log_every: int = 10
    bad_loss: str = "stop"
    recompute: bool = False
    shard: bool = False
    tensorboard: str = ""

    def __post_init__(self) -> None:
        self._check_length()
        self._check_words()
        self._check_numbers()

    def _check_length(self) -> None:
        limits = (self.updates, self.epochs, self.time_limit)
        if all(limit is None for limit in limits):
            raise UserError("a run needs an end: give updates, epochs or time_limit")
        if not self.decay_by_time and self.updates is None and self.epochs is None:
            raise UserError(
                "decay_by_time=False needs updates or epochs, for the schedule to know the length"
            )

    def _check_words(self) -> None:
        if self.schedule not in (*DECAYS, "piecewise"):
            raise UserError(f"schedule: expected {', '.join(DECAYS)} or piecewise, got {self.schedule!r}")
        if (self.schedule == "piecewise") != bool(self.knots):
            raise UserError("knots and schedule='piecewise' go together: give both or neither")
        if self.average not in AVERAGES:
            raise UserError(f"average: expected one of {', '.join(AVERAGES)}, got {self.average!r}")
        if self.best_by == LATEST and self.patience is not None:
            raise UserError("patience waits for a better validation; name a metric in best_by, not latest")
        if self.bad_loss not in BAD_LOSSES:
            raise UserError(f"bad_loss: expected {' or '.join(BAD_LOSSES)}, got {self.bad_loss!r}")

    def _check_numbers(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed: expected a whole number from 0 to 2**63 - 1, got {self.seed}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas: expected rates from 0 up to 1, got {self.betas}")
        above_zero = (
            *("updates", "epochs", "time_limit", "learning_rate", "clip_norm", "accumulate", "average_count"),
            *("average_every", "validate_every", "patience", "checkpoint_every", "log_every"),
        )
        for name in above_zero:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name}: expected a number above 0, got {value}")
        for name in (
            "warm_up",
            "final_rate",
            "weight_decay",
            "epsilon",
            "average_decay",
            "checkpoint_seconds",
        ):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UserError(f"{name}: expected 0 or more, got {value}")


def named_ends(assignments: Mapping[str, str]) -> dict[str, str]:
    """Assignments by dotted name in which updates that are named are not cut short by epochs that are not.

    若只指定 updates，则默认的 epochs 不再限制训练。
    """
    names = {name.rpartition(".")[2] for name in assignments}
    unlimited = {"train.epochs": "none"} if "updates" in names and "epochs" not in names else {}
    return {**assignments, **unlimited}


def to_json(options: TrainOptions) -> dict[str, Any]:
    """The options as plain JSON values.

    转为 JSON 值。
    """
    return {name: _plain(value) for name, value in asdict(options).items()}


def check_same(saved: Mapping[str, Any], current: Mapping[str, Any], where: str) -> None:
    """Refuses to resume with options (as JSON values) that would have given other weights.

    续训时，影响权重的选项必须一致。

    Raises UserError that names the options that differ.
    """
    differing = [
        f"{name} {saved[name]} there, {current[name]} now"
        for name in sorted(saved.keys() & current.keys() - FREE_ON_RESUME)
        if saved[name] != current[name]
    ]
    if differing:
        advice = "resume with the same, or start in another folder"
        raise UserError(f"{where}: the run was started with other options ({'; '.join(differing)}); {advice}")


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
