"""Looking at a model in the middle of training, without a trace in the training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.train.checkpoint import Progress, random_state, restore_random_state
from hanformer.train.history import History, Record
from hanformer.train.options import LATEST, TrainOptions

Metrics = Mapping[str, float]
Validation = Callable[[nn.Module], Metrics]


@contextmanager
def looking_only(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, and torch's random states as before when the block ends.

    评估模式：不求梯度，且不影响训练的随机状态。
    """
    was_training = model.training
    states = random_state()
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
        restore_random_state(states)


class UnknownMetric(UserError):
    """`best_by` names what no validation gives. 未知的评价指标。"""


def judge(metrics: Metrics, options: TrainOptions, progress: Progress) -> bool:
    """Whether the metric that `best_by` names is better than any before, or it says latest; keeps count in `progress`.

    判断是否为目前最佳，并更新进度。

    A value that is not a number is never better. Raises UnknownMetric where the metric is missing.
    """
    if options.best_by == LATEST:
        progress.best_update = progress.update
        return True
    if options.best_by not in metrics:
        names = ", ".join(sorted(metrics)) or "none"
        raise UnknownMetric(
            f"best_by: validation gives {names}; expected one of these, got {options.best_by!r}"
        )
    value = metrics[options.best_by]
    sign = 1.0 if options.higher_is_better else -1.0
    better = not math.isnan(value) and (progress.best is None or sign * value > sign * progress.best)
    progress.validations_since_best = 0 if better else progress.validations_since_best + 1
    if better:
        progress.best, progress.best_update = value, progress.update
    return better


def kept(history: History, options: TrainOptions) -> Record:
    """The validation of the checkpoint that a run keeps, as `judge` chose it.

    所保留检查点的验证记录。
    """
    records = history.validations
    numbers = [record for record in records if not math.isnan(record.metrics.get(options.best_by, math.nan))]
    if options.best_by == LATEST or not numbers:
        return records[-1]
    sign = 1.0 if options.higher_is_better else -1.0
    return max(numbers, key=lambda record: sign * record.metrics[options.best_by])
