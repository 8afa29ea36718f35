"""Runs of several processes, started with a launcher's variables: `python -m tests.train.worker_runs FOLDER`.

Each writes what it found under FOLDER; the last one is left by its second process in the middle.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import nn

from hanformer.config import ModelConfig
from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.errors import UserError
from hanformer.models import Transformer, build
from hanformer.tasks.pretrain import PretrainRecipe, train
from hanformer.tasks.pretrain.corpus import open_corpus
from hanformer.train.gathering import from_others
from hanformer.train.losses.simbert import similar_pairs
from hanformer.train.objective import Loss
from hanformer.train.optim.adamw import adamw
from hanformer.train.optim.base import OptimizerFactory
from hanformer.train.options import TrainOptions
from hanformer.train.sequence import predict_targets
from hanformer.train.shards import Shards
from hanformer.train.trainer import Trainer
from hanformer.train.tricks import tricks_named
from hanformer.train.tricks.penalty import gradient_penalty
from hanformer.train.workers import Workers, working_together
from tests.train.tiny import TinyBatch, TinyModel, TinySource, objective, tiny_model

# Seven micro-batches of unequal size, two an update: the last update of an epoch leaves one process without any.
SIZES = (5, 2, 7, 1, 4, 3, 6)
PAIRS = (4, 6, 2, 4, 2)
#: Tricks that take a gradient inside the objective.
WHOLE = ("fgm", "fgm_of_table", "pgd", "gradient_penalty", "noise_penalty", "vat")


def options(accumulate: int, updates: int = 8, average: str = "ema") -> TrainOptions:
    """Of a run whose updates have two micro-batches in all."""
    return TrainOptions(
        updates=updates,
        learning_rate=1e-2,
        schedule="constant",
        warm_up=3,
        clip_norm=0.5,
        accumulate=accumulate,
        average=average,
        average_decay=0.8,
        precision="fp32",
        validate_every=4,
        checkpoint_every=4,
        log_every=1,
    )


def validate(model: nn.Module) -> dict[str, float]:
    batch = TinySource((20,), seed=99).batches(0)[0]
    loss = objective(model, batch)
    return {"loss": float(loss.total) / float(loss.count)}


def plain(
    folder: Path | None,
    workers: Workers | None = None,
    *,
    updates: int = 8,
    dropout: float = 0.0,
    accumulate: int = 2,
) -> Trainer[TinyBatch]:
    """The tiny model."""
    chosen = options(accumulate // (workers.size if workers else 1), updates)
    model = tiny_model(1, dropout)
    return Trainer(
        model,
        objective,
        TinySource(SIZES),
        chosen,
        validate=validate,
        run_folder=folder,
        workers=workers,
        size_of=lambda batch: len(batch[0]),
    )


class PairSource:
    """Batches for sequence to sequence, of unequal length."""

    def batches(self, epoch: int) -> list[SequenceBatch]:
        rows = [Pair((1, 2 + size, 3), (4, 5 + size % 4, 6)[: 1 + size % 3]) for size in range(10)]
        return [join_pairs(rows[:3]), join_pairs(rows[3:4]), join_pairs(rows[4:8]), join_pairs(rows[8:])]


def transformer(share_layers: bool = False) -> Transformer:
    """Two blocks and a head tied to the embeddings."""
    torch.manual_seed(5)
    config = ModelConfig(
        vocab_size=13,
        hidden_size=8,
        layers=2,
        attention_heads=2,
        intermediate_size=12,
        max_positions=12,
        application="unilm",
        dropout=0.0,
        attention_dropout=0.0,
        share_layers=share_layers,
        initial_deviation=0.3,
    )
    # A bias of keys has no gradient but rounding, which a rule that divides by its size makes large in float32.
    return build(config, ("lm",)).double()


def loss_of_pairs(model: nn.Module) -> dict[str, float]:
    loss = predict_targets()(model, PairSource().batches(0)[2])
    return {"loss": float(loss.total) / float(loss.count)}


def sequences(
    folder: Path | None,
    workers: Workers | None = None,
    *,
    updates: int = 8,
    recompute: bool = False,
    share_layers: bool = False,
    optimizer: OptimizerFactory = adamw,
) -> Trainer[SequenceBatch]:
    """The Transformer."""
    chosen = options(2 // (workers.size if workers else 1), updates)
    chosen = TrainOptions(**{**vars(chosen), "recompute": recompute})
    return Trainer(
        transformer(share_layers),
        predict_targets(),
        PairSource(),
        chosen,
        validate=loss_of_pairs,
        run_folder=folder,
        workers=workers,
        optimizer=optimizer,
    )


def similar(model: nn.Module, batch: TinyBatch) -> Loss:
    """SimBERT's loss over the batches of all processes."""
    vectors = model(batch[0])
    losses = similar_pairs(vectors, 3.0, others=from_others(vectors))
    return Loss(losses.sum(), len(losses))


class JoinedSource:
    """Batches of TinySource, each `count` of them as one."""

    def __init__(self, count: int) -> None:
        self.count = count

    def batches(self, epoch: int) -> list[TinyBatch]:
        found = TinySource(PAIRS).batches(epoch)
        groups = [found[start : start + self.count] for start in range(0, len(found), self.count)]
        return [
            (torch.cat([ids for ids, _ in group]), torch.cat([to for _, to in group])) for group in groups
        ]


def similarity(
    folder: Path | None, workers: Workers | None = None, joined: int = 1, penalty: float = 0.0
) -> Trainer[TinyBatch]:
    """Examples that compare themselves with all others of an update; a penalty is a derivative of a derivative."""
    wanted, chosen = gradient_penalty(similar, penalty), options(1, 6, "none")
    return Trainer(tiny_model(2), wanted, JoinedSource(joined), chosen, run_folder=folder, workers=workers)


def pretrained(folder: Path, accumulate: int) -> None:
    """An encoder of the lines of text.txt beside the run folder: its tokens are written once, and read by all."""
    recipe = PretrainRecipe().changed(
        {
            **{
                "sizes.layers": "1",
                "sizes.hidden_size": "16",
                "sizes.attention_heads": "2",
                "sizes.dropout": "0",
            },
            **{
                "updates": "4",
                "accumulate": str(accumulate),
                "warm_up": "0",
                "log_every": "1",
                "precision": "fp32",
            },
            **{"token_budget": "64", "maximum_length": "32", "valid": "5", "text.documents": "line"},
        }
    )
    train(recipe, open_corpus(folder.parent / "text.txt"), folder)


class BadModel(TinyModel):
    """Its loss is no number where the first token is 7."""


def bad(model: nn.Module, batch: TinyBatch) -> Loss:
    loss = objective(model, batch)
    return Loss(loss.total * (float("nan") if len(batch[0]) == 7 else 1.0), loss.count)


def refused(folder: Path, workers: Workers) -> str:
    """What is said of a loss that is no number in one process."""
    run = plain(folder, workers)
    run.objective = bad
    try:
        run.fit()
    except UserError as error:
        return str(error)
    return ""


def whole(folder: Path, trick: str, workers: Workers) -> str:
    """What a trick says of weights that are divided."""
    run = sequences(folder / trick, workers, updates=1)
    run.objective = tricks_named([trick])(run.objective)
    try:
        run.fit()
    except UserError as error:
        return str(error)
    return ""


def left_alone(folder: Path, workers: Workers) -> str:
    """What a process says whose fellow ends in the middle of a run."""

    def leaving(model: nn.Module, batch: TinyBatch) -> Loss:
        if run.progress.update == 3 and workers.rank == 1:
            os._exit(0)
        return objective(model, batch)

    run = plain(folder, workers)
    run.objective = leaving
    try:
        run.fit()
    except UserError as error:
        return str(error)
    return ""


def main(place: str) -> None:
    """All runs, one after the other."""
    torch.set_num_threads(1)
    folder, device = Path(place), torch.device("cpu")
    with working_together(device) as replicas:
        shards = lambda: Shards(device)  # noqa: E731
        plain(folder / "plain", replicas).fit()
        plain(folder / "dropped", replicas, dropout=0.3).fit()
        plain(folder / "cut", replicas, dropout=0.3, updates=4).fit()
        plain(folder / "cut", replicas, dropout=0.3).fit(resume=True)
        similarity(folder / "similar", replicas).fit()
        similarity(folder / "similar, penalised", replicas, penalty=0.5).fit()
        pretrained(folder / "pretrained", accumulate=1)
        sequences(folder / "sharded", shards()).fit()
        sequences(folder / "recomputed", shards(), recompute=True).fit()
        sequences(folder / "shared", shards(), share_layers=True).fit()
        sequences(folder / "half", shards(), updates=4).fit()
        sequences(folder / "other half", shards()).fit(resume=True)
        similarity(folder / "similar, sharded", shards()).fit()
        said = [whole(folder / "whole", trick, shards()) for trick in WHOLE]
        (folder / f"whole {replicas.rank}").write_text("\n".join(said), encoding="utf-8")
        (folder / f"bad {replicas.rank}").write_text(refused(folder / "bad", replicas), encoding="utf-8")
        (folder / "left").write_text(left_alone(folder / "left run", replicas), encoding="utf-8")
        os._exit(0)  # there is no way to take leave of who is gone


if __name__ == "__main__":
    main(sys.argv[1])
