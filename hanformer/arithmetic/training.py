"""Training the main job: from problems to a run folder that solves them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from torch import nn

from hanformer.arithmetic.data_sets import GENERATED, DataSet
from hanformer.arithmetic.evaluation import evaluate
from hanformer.arithmetic.layouts import LAYOUT_FILE, Noise, ProblemLayout, Reading
from hanformer.arithmetic.pointer import PointerTransformer, add_pointer, pointed_logits
from hanformer.arithmetic.pointer_store import PointerRun, load_pointer
from hanformer.arithmetic.raw_layout import RawLayout
from hanformer.arithmetic.recipe import (
    RUN_FILE,
    Recipe,
    RunDescription,
    plain,
    read_description,
    write_description,
)
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.slot_layout import SlotLayout
from hanformer.arithmetic.solver import LONGEST_TARGET, Solver
from hanformer.config import ModelConfig
from hanformer.data.batches import TokenBudgetBatches
from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.errors import UserError
from hanformer.models import Transformer, build, load, write_config
from hanformer.runtime import describe_machine, inference_dtype, seed_everything
from hanformer.text.wordpiece import WordPieceTokenizer
from hanformer.train.history import HISTORY_FILE, History
from hanformer.train.objective import Objective
from hanformer.train.optimizer import rule_named
from hanformer.train.options import FREE_ON_RESUME
from hanformer.train.progress import Reporter
from hanformer.train.r_drop import r_drop
from hanformer.train.sequence import predict_targets, target_logits
from hanformer.train.trainer import Trainer
from hanformer.weights.atomic import recover_folder

BEST = "best"


@dataclass(frozen=True)
class Example:
    """A training problem, read and written. 一个训练样本。"""

    problem: Problem
    reading: Reading
    target: tuple[int, ...]

    @property
    def pair(self) -> Pair:
        """Source and target as they are."""
        return Pair(self.reading.source, self.target)


def prepare(layout: ProblemLayout, problems: Sequence[Problem]) -> list[Example]:
    """Reads and writes every problem; those without a target in this layout are left out.

    把题目转为训练样本；无法表达的题不参与训练。
    """
    readings = [_read(layout, problem) for problem in problems]
    readable = [(p, r) for p, r in zip(problems, readings, strict=True) if r is not None]
    targets = layout.write_all([p for p, _ in readable], [r for _, r in readable])
    return [
        Example(problem, reading, target)
        for (problem, reading), target in zip(readable, targets, strict=True)
        if target is not None and len(target) <= LONGEST_TARGET
    ]


class _Collate:
    """Joins examples to a batch; sources vary by chance where the recipe asks for it."""

    def __init__(self, layout: ProblemLayout, examples: Sequence[Example], noise: Noise) -> None:
        self.layout, self.examples, self.noise = layout, examples, noise

    def __call__(self, indices: Sequence[int], random: Random) -> SequenceBatch:
        return join_pairs([self._pair(self.examples[index], random) for index in indices])

    def _pair(self, example: Example, random: Random) -> Pair:
        if not (self.noise.piece_dropout or self.noise.mask):
            return example.pair
        return Pair(self.layout.vary(example.problem, example.reading, self.noise, random), example.target)


def _read(layout: ProblemLayout, problem: Problem) -> Reading | None:
    try:
        return layout.read(problem.text)
    except UserError:
        return None


def make_layout(recipe: Recipe, problems: Sequence[Problem], start_from: Path | None = None) -> ProblemLayout:
    """The layout of a recipe, its vocabulary learned from the problems, or taken from a pretrained model.

    按配方建立布局；词表由训练题学习，或取自预训练模型。
    """
    if start_from is not None:
        if recipe.layout != "raw":
            raise UserError("a pretrained model reads plain text: use --set layout=raw with --start-from")
        return RawLayout(WordPieceTokenizer.load(start_from), recipe.raw)
    if recipe.layout == "raw":
        return RawLayout.fit(problems, recipe.raw)
    return SlotLayout.fit(problems, recipe.slots)


def make_model(
    recipe: Recipe, layout: ProblemLayout, start_from: Path | None = None
) -> Transformer | PointerTransformer:
    """A new UniLM model of the recipe's sizes, with a pointer where it wants one, or a pretrained one.

    新建 UniLM 模型（按配方带指针），或将预训练模型用作 UniLM。
    """
    if start_from is not None:
        return load(start_from, application="unilm", heads=("lm",))
    sizes = asdict(recipe.sizes)
    config = ModelConfig(vocab_size=layout.vocabulary_size, application="unilm", max_positions=1536, **sizes)
    model = build(config, heads=("lm",))
    return add_pointer(model, layout) if recipe.pointer and isinstance(layout, SlotLayout) else model


def train(
    recipe: Recipe,
    data: DataSet,
    run_folder: str | Path,
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
    start_from: str | Path | None = None,
) -> History:
    """Trains by a recipe into a run folder; `resume` goes on with a run that was cut.

    按配方训练并写入运行目录；resume 可继续被中断的训练。

    The folder then holds run.toml, history.jsonl, best/ (a model folder) and last/ (the state to resume from).
    Raises UserError for unusable data, a folder that already holds a run, and whatever cannot be written.
    """
    folder = Path(run_folder)
    origin = None if start_from is None else Path(start_from)
    _check_folder(folder, recipe, data, resume)
    seed_everything(recipe.train.seed)
    layout = load_layout(folder) if resume else make_layout(recipe, data.train, origin)
    examples = prepare(layout, data.train)
    if not examples:
        raise UserError(f"{data.source}: no training problem can be expressed in the {recipe.layout} layout")
    model = make_model(recipe, layout, origin).to(device or torch.device("cpu"))
    source = TokenBudgetBatches(
        [example.pair.length for example in examples],
        recipe.token_budget,
        _Collate(layout, examples, recipe.noise),
        seed=recipe.train.seed,
    )
    trainer: Trainer[SequenceBatch] = Trainer(
        model,
        _objective(recipe, model),
        source,
        recipe.train,
        validate=_validation(layout, data.valid) if data.valid else None,
        run_folder=folder,
        reporter=reporter,
        size_of=lambda batch: batch.layout.total,
        optimizer=rule_named(recipe.optimizer),
        accompany=_accompany(model, layout),
    )
    if isinstance(model, PointerTransformer):
        trainer.run = PointerRun(folder, _accompany(model, layout))
    if not resume:
        layout.save(folder)
        write_description(folder, _describe(recipe, data, len(examples), model))
    return trainer.fit(resume=resume)


def _check_folder(folder: Path, recipe: Recipe, data: DataSet, resume: bool) -> None:
    """Refuses to write over a run, and to go on with one by another recipe or other data."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder for the run, this is a file; choose another place")
    if not resume:
        if (folder / RUN_FILE).exists() or (folder / BEST).exists():
            raise UserError(f"{folder} already holds a run: resume it (--resume), or choose another folder")
        return
    differing = _differences(
        "", read_description(folder), plain({"data": data.source, "recipe": asdict(recipe)})
    )
    if differing:
        raise UserError(
            f"{folder}: the run was started with other choices ({'; '.join(differing[:3])}); "
            "resume with the same, or start in another folder"
        )


def _differences(name: str, saved: object, wanted: object) -> list[str]:
    """Choices that differ, but for those that may differ when a run goes on."""
    if isinstance(wanted, Mapping) and isinstance(saved, Mapping):
        inner = [key for key in wanted if f"{name}{key}" not in _FREE]
        return [line for key in inner for line in _differences(f"{name}{key}.", saved.get(key), wanted[key])]
    return [] if saved == wanted else [f"{name.rstrip('.')} {saved} there, {wanted} now"]


_FREE = {f"recipe.train.{name}" for name in FREE_ON_RESUME}


def _objective(recipe: Recipe, model: Transformer | PointerTransformer) -> Objective[SequenceBatch]:
    logits_of = pointed_logits if isinstance(model, PointerTransformer) else target_logits
    return r_drop(predict_targets(recipe.label_smoothing, logits_of), recipe.r_drop)


def _accompany(model: Transformer | PointerTransformer, layout: ProblemLayout) -> Callable[[Path], None]:
    stack = model.transformer if isinstance(model, PointerTransformer) else model

    def accompany(folder: Path) -> None:
        write_config(stack, folder)
        layout.save(folder)

    return accompany


def _validation(
    layout: ProblemLayout, problems: Sequence[Problem]
) -> Callable[[nn.Module], Mapping[str, float]]:
    def validate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, (Transformer, PointerTransformer))
        return {"accuracy": evaluate(Solver(model, layout, beams=1), problems).score.accuracy}

    return validate


def _describe(recipe: Recipe, data: DataSet, examples: int, model: nn.Module) -> RunDescription:
    counts = {
        "training_problems": examples,
        "inexpressible": len(data.train) - examples,
        "validation_problems": len(data.valid),
        "dropped_by_cleaning": data.dropped,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    return RunDescription(data.source, recipe, machine=asdict(describe_machine()), counts=counts)


def load_layout(folder: Path) -> ProblemLayout:
    """The layout that `save` wrote into a folder; raises UserError for what is missing or foreign.

    读取保存的布局。
    """
    path = folder / LAYOUT_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        name, options = values["name"], dict(values["options"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the run folder is incomplete") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); the run folder is incomplete") from None
    if name == SlotLayout.name:
        return SlotLayout.load(folder, options)
    if name == RawLayout.name:
        return RawLayout.load(folder, options)
    raise UserError(f"{path}: expected the layout slots or raw, got {name!r}")


def discard_run(folder: Path) -> None:
    """Removes an earlier run on generated problems, and nothing else that lies in the folder.

    删除已有的、用生成题训练的运行；其他文件保持不动。

    Raises UserError for a folder that holds other things, or a run on other data.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / RUN_FILE).exists()):
        raise UserError(f"{folder}: exists and is no run folder; choose another place with --out")
    if any(folder.iterdir()) and read_description(folder).get("data") != GENERATED:
        raise UserError(
            f"{folder}: holds a run on other data, which is not replaced; choose another place with --out"
        )
    for name in ("best", "last"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (RUN_FILE, HISTORY_FILE, LAYOUT_FILE, "tokenizer.json", "report.html"):
        (folder / name).unlink(missing_ok=True)


def _run_of(folder: Path) -> Path:
    """The run folder, also where its best/ was named."""
    is_best = folder.name == BEST and not (folder / RUN_FILE).exists()
    return folder.parent if is_best and (folder.parent / RUN_FILE).exists() else folder


def load_solver(
    run_folder: str | Path, *, beams: int = 3, device: str = "cpu", precision: str = "auto"
) -> Solver:
    """The solver of a finished run: `load_solver("runs/demo").solve("题目")`.

    打开训练好的运行目录用于解题。

    `precision` is the format of weights and activations: auto (bf16 where it is fast), fp32, bf16 or fp16.
    Raises UserError for a folder that is no run, or is incomplete or of another version.
    """
    folder = _run_of(Path(run_folder))
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such run folder; train one with `hanformer train arithmetic --out {folder}`"
        )
    description = read_description(folder)
    if description.get("task") != "arithmetic":
        raise UserError(f"{folder}: this run is of the task {description.get('task')!r}, not arithmetic")
    recover_folder(folder / BEST)
    if not (folder / BEST).is_dir():
        raise UserError(
            f"{folder}: there is no best checkpoint yet; let the training reach its first validation"
        )
    dtype = inference_dtype(precision, torch.device(device))
    model, layout = load(folder / BEST, device=device, dtype=dtype), load_layout(folder / BEST)
    if layout.vocabulary_size != model.config.vocab_size:
        raise UserError(
            f"{folder / BEST}: layout and weights disagree: {layout.vocabulary_size} tokens in one, "
            f"{model.config.vocab_size} in the other; the run folder is broken"
        )
    if description["recipe"]["pointer"] and isinstance(layout, SlotLayout):
        return Solver(load_pointer(model, layout, folder / BEST), layout, beams=beams)
    return Solver(model, layout, beams=beams)
