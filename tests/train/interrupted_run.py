"""A run that kills its own process (SIGKILL): `python -m tests.train.interrupted_run FOLDER WHERE NUMBER`.

WHERE: `forward` (before that forward pass) or `rename` (before that rename of a folder); NUMBER from 1.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer
from hanformer.weights import atomic
from tests.train.tiny import TinyBatch, TinySource, objective, tiny_model

# Epochs of 7 batches in groups of 2, 2, 2 and 1; checkpoints every 3 updates, mostly in mid-epoch.
SIZES = (5, 2, 7, 1, 4, 3, 6)


class Countdown:
    """Kills the process at the given call."""

    def __init__(self, number: int) -> None:
        self.left = number

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def options(average: str = "ema", updates: int = 14) -> TrainOptions:
    """Dropout, accumulation, averaging, schedule and clipping all matter to the result."""
    return TrainOptions(
        updates=updates,
        learning_rate=1e-2,
        warm_up=3,
        schedule="cosine",
        clip_norm=0.5,
        accumulate=2,
        average=average,
        average_decay=0.8,
        average_count=3,
        average_every=2,
        seed=7,
        precision="fp32",
        validate_every=5,
        checkpoint_every=3,
        log_every=2,
    )


def validate(model: nn.Module) -> dict[str, float]:
    """Draws random numbers, which must not reach the training."""
    torch.rand(5)
    batch = TinySource((20,), seed=99).batches(0)[0]
    loss = objective(model, batch)
    return {"loss": float(loss.total) / float(loss.count)}


def trainer(folder: Path | None, average: str = "ema", ticks: Countdown | None = None) -> Trainer[TinyBatch]:
    """The run, with a model that is initialised anew each time."""

    def watched(model: nn.Module, batch: TinyBatch) -> Loss:
        if ticks is not None:
            ticks.tick()
        return objective(model, batch)

    model = tiny_model(seed=1, dropout=0.3)
    return Trainer(model, watched, TinySource(SIZES), options(average), validate=validate, run_folder=folder)


def main(folder: str, where: str, number: str) -> None:
    """Trains until the kill."""
    torch.set_num_threads(1)
    ticks = Countdown(int(number))
    if where == "rename":
        rename = os.rename

        def watched_rename(source: Path, target: Path) -> None:
            if "last" in Path(source).name:
                ticks.tick()
            rename(source, target)

        atomic.os.rename = watched_rename  # type: ignore[attr-defined,assignment]
    trainer(Path(folder), ticks=ticks if where == "forward" else None).fit()


if __name__ == "__main__":
    main(*sys.argv[1:])
