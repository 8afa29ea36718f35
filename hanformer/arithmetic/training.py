"""Training the main job: from problems to a run folder that solves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from torch import nn

from hanformer.arithmetic.data_sets import GENERATED, DataSet
from hanformer.arithmetic.evaluation import evaluate
from hanformer.arithmetic.generated import generate
from hanformer.arithmetic.layouts import LAYOUT_FILE, Noise, ProblemLayout, Reading
from hanformer.arithmetic.pointer import PointerTransformer, add_pointer, load_pointer, pointed_logits
from hanformer.arithmetic.raw_layout import RawLayout
from hanformer.arithmetic.recipe import MOST_POSITIONS, Recipe, description_of
from hanformer.arithmetic.records import Problem
from hanformer.arithmetic.slot_layout import SlotLayout
from hanformer.arithmetic.solver import LONGEST_TARGET, Solver
from hanformer.data.batches import TokenBudgetBatches
from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.errors import UserError
from hanformer.models import Transformer, build, load, write_config
from hanformer.models.checkpoint import open_checkpoint
from hanformer.runtime import inference_dtype
from hanformer.text.wordpiece import WordPieceTokenizer
from hanformer.train.history import History
from hanformer.train.objective import Objective
from hanformer.train.progress import Reporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.runs import RUN_FILE, open_run, read_description, remove_run, run_of
from hanformer.train.sequence import predict_targets, target_logits
from hanformer.train.tricks.r_drop import r_drop
from hanformer.weights.hub import local_place

TASK = "arithmetic"


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
    """Joins examples to a batch; sources and targets vary by chance where the recipe asks for it."""

    def __init__(self, layout: ProblemLayout, examples: Sequence[Example], noise: Noise) -> None:
        self.layout, self.examples, self.noise = layout, examples, noise

    def __call__(self, indices: Sequence[int], random: Random) -> SequenceBatch:
        return join_pairs([self._pair(self.examples[index], random) for index in indices])

    def _pair(self, example: Example, random: Random) -> Pair:
        source, target = example.reading.source, example.target
        if self.noise.piece_dropout or self.noise.mask:
            source = self.layout.vary(example.problem, example.reading, self.noise, random)
        if self.noise.writings and random.random() < self.noise.writings:
            target = self._rewritten(target, random)
        return Pair(source, target)

    def _rewritten(self, target: tuple[int, ...], random: Random) -> tuple[int, ...]:
        assert isinstance(self.layout, SlotLayout)  # a recipe for another layout refuses writings
        written = self.layout.rewrite(target, random)
        return written if len(written) <= LONGEST_TARGET else target


def _read(layout: ProblemLayout, problem: Problem) -> Reading | None:
    try:
        return layout.read(problem.text)
    except UserError:
        return None


def make_layout(recipe: Recipe, problems: Sequence[Problem]) -> ProblemLayout:
    """The layout of a recipe, its vocabulary learned from the problems, or taken from a pretrained model.

    按配方建立布局；词表由训练题学习，或取自预训练模型。
    """
    if recipe.start_from:
        return RawLayout(WordPieceTokenizer.load(local_place(recipe.start_from)), recipe.raw)
    if recipe.layout == "raw":
        return RawLayout.fit(problems, recipe.raw)
    return SlotLayout.fit(problems, recipe.slots)


def make_model(recipe: Recipe, layout: ProblemLayout) -> Transformer | PointerTransformer:
    """A new UniLM model of the recipe's sizes, with a pointer where it wants one, or a pretrained one.

    新建 UniLM 模型（按配方带指针），或将预训练模型用作 UniLM。
    """
    if recipe.start_from:
        recipe.check_start(open_checkpoint(recipe.start_from).config({}))
        return load(
            recipe.start_from,
            application="unilm",
            heads=("lm",),
            attention=recipe.sizes.attention,
            changes=recipe.sizes.dropouts,
            dtype=torch.float32,
        )
    config = recipe.shape.config(layout.vocabulary_size, "unilm", max_positions=MOST_POSITIONS)
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
) -> History:
    """Trains by a recipe into a run folder; `resume` goes on with a run that was cut.

    按配方训练并写入运行目录；resume 可继续被中断的训练。

    The folder then holds run.toml, history.jsonl, best/ (a model folder) and last/ (the state to resume from).
    Raises UserError for unusable data, a folder that already holds a run, and whatever cannot be written.
    """
    data = replace(data, train=training_problems(recipe, data))

    def prepare(run: Path | None) -> Prepared[SequenceBatch]:
        layout = make_layout(recipe, data.train) if run is None else load_layout(run)
        return _prepared(recipe, data, layout, make_model(recipe, layout))

    return train_run(
        run_folder,
        TASK,
        data.source,
        recipe,
        prepare,
        device=device,
        reporter=reporter,
        resume=resume,
        saved=description_of,
    )


def training_problems(recipe: Recipe, data: DataSet) -> Sequence[Problem]:
    """What a recipe trains on: the first `limit` problems, and `extra_generated` ones of the project's own.

    配方所用的训练题：前 limit 题，再加 extra_generated 道生成题。

    Raises UserError for generated problems beside generated ones.
    """
    problems = data.train[: recipe.limit or None]
    if not recipe.extra_generated:
        return problems
    if data.source == GENERATED:
        raise UserError("extra_generated: the data are generated already; set their number with generated")
    return [*problems, *generate(recipe.extra_generated, recipe.train.seed, "train")]


def _prepared(
    recipe: Recipe, data: DataSet, layout: ProblemLayout, model: Transformer | PointerTransformer
) -> Prepared[SequenceBatch]:
    examples = prepare(layout, data.train)
    if not examples:
        raise UserError(f"{data.source}: no training problem can be expressed in the {recipe.layout} layout")
    source = TokenBudgetBatches(
        [example.pair.length for example in examples],
        recipe.token_budget,
        _Collate(layout, examples, recipe.noise),
        seed=recipe.train.seed,
    )
    stack = model.transformer if isinstance(model, PointerTransformer) else model
    return Prepared(
        model,
        _objective(recipe, model),
        source,
        lambda batch: batch.layout.total,
        layout.save,
        lambda folder: write_config(stack, folder),
        _validation(layout, data.valid) if data.valid else None,
        {
            "training_problems": len(examples),
            "inexpressible": len(data.train) - len(examples),
            "validation_problems": len(data.valid),
            "dropped_by_cleaning": data.dropped,
        },
    )


def _objective(recipe: Recipe, model: Transformer | PointerTransformer) -> Objective[SequenceBatch]:
    logits_of = pointed_logits if isinstance(model, PointerTransformer) else target_logits
    return r_drop(predict_targets(recipe.label_smoothing, logits_of), recipe.r_drop)


def _validation(
    layout: ProblemLayout, problems: Sequence[Problem]
) -> Callable[[nn.Module], Mapping[str, float]]:
    def validate(model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, (Transformer, PointerTransformer))
        return {"accuracy": evaluate(Solver(model, layout, beams=1), problems).score.accuracy}

    return validate


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
    remove_run(folder, (LAYOUT_FILE, "tokenizer.json", "report.html"))


def load_solver(
    run_folder: str | Path,
    *,
    beams: int = 3,
    device: str = "cpu",
    precision: str = "auto",
    vote: bool = True,
) -> Solver:
    """The solver of a finished run: `load_solver("runs/demo").solve("题目")`.

    打开训练好的运行目录用于解题。

    `precision` is the format of weights and activations: auto (bf16 where it is fast), fp32, bf16 or fp16; with `vote`
    the candidates of a beam that have one value add up their probabilities.
    Raises UserError for a folder that is no run, or is incomplete or of another version.
    """
    best, _ = open_run(run_folder, TASK)
    description = description_of(run_of(run_folder))
    dtype = inference_dtype(precision, torch.device(device))
    model, layout = load(best, device=device, dtype=dtype), load_layout(best)
    if layout.vocabulary_size != model.config.vocab_size:
        raise UserError(
            f"{best}: layout and weights disagree: {layout.vocabulary_size} tokens in one, "
            f"{model.config.vocab_size} in the other; the run folder is broken"
        )
    if description["recipe"]["pointer"] and isinstance(layout, SlotLayout):
        return Solver(load_pointer(model, layout, best), layout, beams=beams, vote=vote)
    return Solver(model, layout, beams=beams, vote=vote)
