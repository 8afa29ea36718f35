"""Training on pairs of texts into a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.models import write_config
from hanformer.tasks.classify.decisions import Highest
from hanformer.tasks.classify.examples import (
    Examples,
    LabelledBatch,
    class_labels,
    text_windows,
    windows_of_pair,
)
from hanformer.tasks.classify.labels import ClassNames
from hanformer.tasks.classify.training import ClassifierFit, size_of
from hanformer.tasks.pair.correlation import pearson, spearman
from hanformer.tasks.pair.losses import VECTOR_LOSSES
from hanformer.tasks.pair.model import Partners, make_embedder, vectors_of
from hanformer.tasks.pair.recipe import PairRecipe
from hanformer.tasks.pair.rows import LabelledPair, PairRows, pair_names
from hanformer.tasks.text_recipe import make_tokenizer
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.history import History
from hanformer.train.objective import Loss, Objective
from hanformer.train.progress import Reporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.tricks import tricks_named
from hanformer.train.validation import Validation

TASK = "pair"


def train(
    recipe: PairRecipe,
    data: PairRows,
    run_folder: str | Path,
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> History:
    """Trains by a recipe into a run folder; `resume` goes on with a run that was cut.

    按配方训练文本对模型并写入运行目录。

    best/ is a model folder: `hanformer.load(RUN)` opens the Transformer, of vectors all there is. Raises UserError for
    unusable data, a folder that already holds a run, and whatever cannot be written.
    """

    def prepare(run: Path | None) -> Prepared[Any]:
        texts = chain.from_iterable((row.first, row.second) for row in data.train)
        tokenizer = make_tokenizer(recipe, texts) if run is None else load_tokenizer(run)
        if recipe.compares:
            return _vectors(recipe, data, tokenizer)
        return _classes(recipe, data, tokenizer, pair_names(data) if run is None else ClassNames.load(run))

    return train_run(
        run_folder, TASK, data.source, recipe, prepare, device=device, reporter=reporter, resume=resume
    )


def _classes(recipe: PairRecipe, data: PairRows, tokenizer: Tokenizer, names: ClassNames) -> Prepared[Any]:
    fit = ClassifierFit(
        recipe,
        tokenizer,
        names,
        pair_examples(recipe, tokenizer, names, data.train),
        pair_examples(recipe, tokenizer, names, data.valid),
        Highest(),
    )
    prepared = fit.prepared(fit.objective(), fit.source(), {"without_label": data.left_out})
    return replace(prepared, validate=_with_score(fit.validation()))


def pair_examples(
    recipe: PairRecipe, tokenizer: Tokenizer, names: ClassNames, rows: Sequence[LabelledPair]
) -> Examples:
    """Pairs that are read together. 拼接编码的样本。"""
    found = [
        windows_of_pair(tokenizer, row.first, row.second, recipe.maximum_length, recipe.overlap)
        for row in rows
    ]
    return Examples(found, class_labels(names.targets([row.labels for row in rows]), many=False))


def _with_score(validation: Validation) -> Validation:
    def validate(model: nn.Module) -> Mapping[str, float]:
        found = validation(model)
        return {**found, "score": found["accuracy"]}

    return validate


def _vectors(recipe: PairRecipe, data: PairRows, tokenizer: Tokenizer) -> Prepared[Any]:
    model = make_embedder(recipe, tokenizer)
    single = VECTOR_LOSSES[recipe.loss].twice
    train = (texts_twice if single else partners)(recipe, tokenizer, data.train)
    valid = partners(recipe, tokenizer, data.valid)
    if len(valid.labels.unique()) < 2:
        raise UserError(
            f"{data.source}: all held-out pairs have the label {float(valid.labels[0]):g}: nothing to choose by"
        )
    return Prepared(
        model,
        tricks_named(recipe.tricks)(compare(recipe)),
        train.batches(recipe.token_budget, recipe.train.seed),
        size_of,
        tokenizer.save,
        lambda folder: write_config(model.transformer, folder),
        _correlation(valid, recipe.token_budget),
        {
            ("training_texts" if single else "training_pairs"): len(train),
            "validation_pairs": len(valid),
            "without_label": data.left_out,
        },
    )


def partners(recipe: PairRecipe, tokenizer: Tokenizer, rows: Sequence[LabelledPair]) -> Partners:
    """Pairs that are read apart, with their grades; without one, that of the alike. 分别编码的文本对。"""
    cut = _cut(recipe, tokenizer)
    labels = [float(row.labels[0]) if row.labels else recipe.alike for row in rows]
    return Partners([(cut(row.first), cut(row.second)) for row in rows], torch.tensor(labels))


def texts_twice(recipe: PairRecipe, tokenizer: Tokenizer, rows: Sequence[LabelledPair]) -> Partners:
    """Every text once, as its own partner. 每条文本与自身成对。"""
    cut = _cut(recipe, tokenizer)
    texts = dict.fromkeys(text for row in rows for text in (row.first, row.second))
    # Of a long text one window is taken: two would not be the same sentence twice.
    found = [cut(text)[:1] for text in texts]
    return Partners([(text, text) for text in found], torch.ones(len(found)))


def _cut(recipe: PairRecipe, tokenizer: Tokenizer) -> Callable[[str], Any]:
    return lambda text: text_windows(tokenizer, text, recipe.maximum_length, recipe.overlap)


def compare(recipe: PairRecipe) -> Objective[LabelledBatch]:
    """The objective of vectors in neighbouring rows; its outputs are "vectors" [2B, C] and "labels" [B].

    句向量目标函数。
    """
    kind = VECTOR_LOSSES[recipe.loss]

    def objective(model: nn.Module, batch: LabelledBatch) -> Loss:
        vectors = vectors_of(model, batch)
        labels = batch.labels.to(vectors.device)
        loss = kind.compute(vectors, labels, recipe.scale or kind.scale)
        return Loss(loss.total, loss.count, {"vectors": vectors, "labels": labels})

    return objective


def _correlation(valid: Partners, token_budget: int) -> Validation:
    def validate(model: nn.Module) -> Mapping[str, float]:
        return correlations(valid.cosines(model, token_budget), valid)

    return validate


def correlations(cosines: torch.Tensor, pairs: Partners) -> Mapping[str, float]:
    """Spearman's and Pearson's correlation of cosines [n] and grades; the first is the score. 相关系数。"""
    found = spearman(cosines, pairs.labels)
    return {"score": found, "spearman": found, "pearson": pearson(cosines, pairs.labels)}
