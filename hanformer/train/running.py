"""One way from a task to a run folder: check, seed, prepare, describe, train."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn

from hanformer.data.batches import BatchSource
from hanformer.errors import UserError
from hanformer.runtime import describe_machine, seed_everything
from hanformer.train.data_files import changed_files, check_unchanged, fingerprints
from hanformer.train.history import History
from hanformer.train.objective import Objective
from hanformer.train.optimizer import rule_named
from hanformer.train.options import TrainOptions
from hanformer.train.parts import STACK, PartsRun
from hanformer.train.plan import complaint_of_decay
from hanformer.train.progress import Reporter
from hanformer.train.runs import (
    LAST,
    RUN_FILE,
    RunDescription,
    check_folder,
    read_description,
    write_description,
)
from hanformer.train.theseus import Theseus, begin_theseus, end_theseus
from hanformer.train.trainer import Trainer
from hanformer.train.validation import Validation
from hanformer.train.workers import Workers, device_of_worker, working_together

Batch = TypeVar("Batch")

#: Where a stage that replaces layers keeps its state, in the run folder, until the run is done.
REPLACING = "replacing"

#: Update rules that look at more than one entry of a matrix at a time.
WHOLE_MATRICES = frozenset({"muon", "adafactor", "lamb", "layerwise"})


class RunRecipe(Protocol):
    """What every recipe has: how the trainer trains, and by which rule. 所有配方共有的部分。"""

    @property
    def train(self) -> TrainOptions: ...

    @property
    def optimizer(self) -> str: ...

    @property
    def theseus(self) -> Theseus:
        """The new layers that take the place of the model's own before it is trained."""
        ...

    @property
    def named_files(self) -> tuple[str, ...]:
        """Files beside the data that the run depends on; empty names are none."""
        ...


@dataclass(frozen=True, eq=False)
class Prepared(Generic[Batch]):
    """What a task gives to be trained.

    任务为训练准备好的内容。

    `size_of` a batch are its tokens; `companions` writes what a resumed or finished run needs beside weights
    (tokenizer, labels) into a folder; `describe` writes the model's config.json; `counts` stand in run.toml.
    """

    model: nn.Module
    objective: Objective[Batch]
    source: BatchSource[Batch]
    size_of: Callable[[Batch], int]
    companions: Callable[[Path], None]
    describe: Callable[[Path], None]
    validate: Validation | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def train_run(
    folder: str | Path,
    task: str,
    data: str,
    recipe: RunRecipe,
    prepare: Callable[[Path | None], Prepared[Batch]],
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
    saved: Callable[[Path], Mapping[str, Any]] = read_description,
) -> History:
    """Trains a task by a recipe into a run folder; `resume` goes on with a run that was cut.

    按配方训练某一任务并写入运行目录；resume 可继续被中断的训练。

    `prepare` is given the run folder where a run goes on (its companions lie there), else None. `saved` reads run.toml.
    The files of the data are watched for changes, and those that the recipe names.
    Under a launcher (`torchrun`, `accelerate launch`) all its processes share the run, and the first one writes.
    The folder then holds run.toml, history.jsonl, best/ (a model folder) and last/ (the state to resume from).
    Raises UserError for a folder that already holds a run, unusable data, and whatever cannot be written.
    """
    if recipe.train.shard:
        _check_shards(recipe)
    device = device_of_worker(device or torch.device("cpu"))
    with working_together(device, recipe.train.shard) as workers:
        folder, description = Path(folder), RunDescription(task, data, recipe)
        if resume and not (folder / RUN_FILE).exists():
            raise UserError(
                f"{folder}: not a run folder, there is nothing to go on with; leave out --resume to begin"
            )
        known = saved(folder) if resume else None
        check_folder(folder, known, description, resume)
        beside = recipe.named_files
        check_unchanged(folder, (known or {}).get("files"), data, beside)
        files = fingerprints(data, beside)
        seed_everything(recipe.train.seed)
        prepared = prepare(folder if resume else None)
        prepared.model.to(device)
        stages = _stages(folder, recipe, prepared, reporter, workers)
        trainer = next(stages)
        # Before the leader writes, all have looked.
        workers.any(False)
        if workers.leads and known is None:
            _describe(folder, description, prepared, files)
        elif workers.leads and known is not None:
            # What may differ when a run goes on (when it ends, how often it looks) is as it is now.
            kept = {name: known.get(name, {}) for name in ("machine", "counts", "files")}
            write_description(folder, replace(description, **kept))
        if complaint := complaint_of_decay(recipe.optimizer, recipe.train.weight_decay):
            trainer.reporter.note(f"note: {complaint}")
        history = trainer.fit(resume=resume or trainer.folder != folder)
        for trainer in stages:
            history = trainer.fit(resume=resume)
        if workers.leads:
            shutil.rmtree(folder / REPLACING, ignore_errors=True)
        if workers.leads and (changed := changed_files(files, fingerprints(data, beside))):
            trainer.reporter.note(
                f"{data}: changed during the training ({', '.join(changed[:3])}); what was learned is of the files as "
                "they were read"
            )
    return history


def _stages(
    folder: Path,
    recipe: RunRecipe,
    prepared: Prepared[Batch],
    reporter: Reporter | None,
    workers: Workers,
) -> Iterator[Trainer[Batch]]:
    """The trainers of a run, each made when the one before is done: of new layers among the old ones, where the recipe
    wants some, and of the whole model."""
    chosen, model = recipe.theseus, prepared.model
    if chosen.layers:
        begin_theseus(model, chosen.layers, first=chosen.first, grows_over=chosen.grows_over)
        if not (folder / LAST).exists():  # else a run goes on that was farther
            first = _trainer(folder / REPLACING, recipe, prepared, reporter, workers)
            first.reporter.note(f"theseus: {chosen.layers} new layers learn in the place of the old ones")
            yield first
        end_theseus(model)

    def accompany(best: Path) -> None:
        prepared.describe(best)
        prepared.companions(best)

    trainer = _trainer(folder, recipe, prepared, reporter, workers, accompany)
    if chosen.layers:
        trainer.reporter.note("theseus: the new layers go on alone, and all weights learn")
    if STACK in dict(model.named_children()):
        trainer.write_to(PartsRun(folder, accompany))
    yield trainer


def _trainer(
    folder: Path,
    recipe: RunRecipe,
    prepared: Prepared[Batch],
    reporter: Reporter | None,
    workers: Workers,
    accompany: Callable[[Path], None] | None = None,
) -> Trainer[Batch]:
    return Trainer(
        prepared.model,
        prepared.objective,
        prepared.source,
        recipe.train,
        validate=prepared.validate,
        run_folder=folder,
        reporter=reporter,
        size_of=prepared.size_of,
        optimizer=rule_named(recipe.optimizer),
        accompany=accompany,
        workers=workers,
    )


def _describe(
    folder: Path, chosen: RunDescription, prepared: Prepared[Batch], files: Mapping[str, str]
) -> None:
    prepared.companions(folder)
    counts = {**prepared.counts, "parameters": sum(p.numel() for p in prepared.model.parameters())}
    machine = asdict(describe_machine())
    write_description(folder, replace(chosen, machine=machine, counts=counts, files=files))


def _check_shards(recipe: RunRecipe) -> None:
    if recipe.theseus.layers:
        raise UserError(
            "theseus: layers cannot be replaced with --set train.shard=true; leave one of them out"
        )
    whole = sorted(set(recipe.optimizer.split("+")) & WHOLE_MATRICES)
    if whole:
        raise UserError(
            f"optimizer: {', '.join(whole)} looks at whole matrices, which --set train.shard=true divides; use adamw, "
            "adax, lion or tiger, or train without"
        )
