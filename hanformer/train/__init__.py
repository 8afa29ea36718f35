"""Training: an objective, a source of batches and the options of a run go in; a run folder comes out."""

from __future__ import annotations

from hanformer.train.objective import Loss, Objective
from hanformer.train.options import TrainOptions
from hanformer.train.trainer import Trainer

__all__ = ["Loss", "Objective", "TrainOptions", "Trainer"]
