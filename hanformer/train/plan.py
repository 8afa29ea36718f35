"""How long a run is, and the learning rate at each of its updates."""

from __future__ import annotations

import math

from hanformer.train import schedule
from hanformer.train.checkpoint import Progress
from hanformer.train.options import TrainOptions


def total_updates(options: TrainOptions, batches: int) -> int | None:
    """The number of updates that the options allow, or None where only time limits the run.

    根据选项计算总更新次数。

    Epochs are taken to be as long as the first, which has `batches` micro-batches.
    """
    by_epochs = None if options.epochs is None else options.epochs * math.ceil(batches / options.accumulate)
    limits = [limit for limit in (options.updates, by_epochs) if limit is not None]
    return min(limits) if limits else None


def complaint_of_warm_up(options: TrainOptions, total: int | None) -> str:
    """What is wrong where warming up takes more than half of a run of `total` updates; else nothing.

    预热占去大半更新时的提示；否则为空。
    """
    if total is None or options.schedule == "piecewise" or 2 * options.warm_up <= total:
        return ""
    return (
        f"warm_up={options.warm_up} takes more than half of the {total} updates, and the rate stays low: the model may "
        f"learn little; try --set train.warm_up={total // 10}, more epochs, or smaller batches"
    )


def complaint_of_average(options: TrainOptions, total: int | None) -> str:
    """What is wrong where a run of `total` updates ends before the first snapshot of its average; else nothing.

    训练结束前取不到任何快照时的提示；否则为空。
    """
    if total is None or options.average != "last" or options.average_every <= total:
        return ""
    return (
        f"average=last takes its first snapshot after average_every={options.average_every} of {total} updates: "
        f"nothing is averaged; try --set train.average_every={max(total // (2 * options.average_count), 1)}"
    )


def complaint_of_decay(optimizer: str, weight_decay: float) -> str:
    """What is wrong where decay joins gradients that are then divided by their size; else nothing.

    权重衰减混入自适应梯度时的提示；否则为空。
    """
    if "adax" not in optimizer.split("+") or not weight_decay:
        return ""
    return (
        f"adax adds weight_decay={weight_decay} to gradients and divides both by their size, so weights shrink far "
        "more than with adamw; take --optimizer adaxw, or --set weight_decay=0"
    )


def rate_multiplier(options: TrainOptions, progress: Progress, total: int | None) -> float:
    """What the base rate is multiplied by in the next update.

    下一次更新的学习率系数。

    The decay follows the updates, or the time used where that is further on.
    """
    if options.schedule == "piecewise":
        return schedule.piecewise_linear(options.knots, progress.update)
    rest = max((total or 0) - options.warm_up, 1)
    by_updates = 0.0 if total is None else (progress.update - options.warm_up) / rest
    by_time = progress.seconds / options.time_limit if options.time_limit and options.decay_by_time else 0.0
    fraction = max(by_updates, by_time)
    return schedule.warm_up(progress.update, options.warm_up) * schedule.decay(
        options.schedule, fraction, options.final_rate
    )
