"""Training a classifier into a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hanformer.data.batches import BatchSource
from hanformer.models import write_config
from hanformer.tasks.classify.decisions import Decision, decision_of
from hanformer.tasks.classify.examples import (
    Examples,
    LabelledBatch,
    class_labels,
    text_windows,
    unlabelled_examples,
)
from hanformer.tasks.classify.labels import ClassNames
from hanformer.tasks.classify.losses import LossOf, class_tricks
from hanformer.tasks.classify.model import Classifier, make_classifier, scores_of
from hanformer.tasks.classify.recipe import ClassifierRecipe, ClassifyRecipe
from hanformer.tasks.classify.scoring import figures_of
from hanformer.tasks.classify.texts import ClassifyData, LabelledText
from hanformer.tasks.text_recipe import make_tokenizer
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.history import History
from hanformer.train.losses.multilabel import count_labels
from hanformer.train.objective import Loss, Objective
from hanformer.train.parts import inherit_part
from hanformer.train.progress import Reporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.tricks.r_drop import agreement
from hanformer.train.tricks.sensitivity import sensitivity
from hanformer.train.tricks.unlabelled import SideBySide, SideBySideSource, with_unlabelled
from hanformer.train.tricks.virtual import instability
from hanformer.train.validation import Validation

TASK = "classify"


def train(
    recipe: ClassifyRecipe,
    data: ClassifyData,
    run_folder: str | Path,
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> History:
    """Trains by a recipe into a run folder; `resume` goes on with a run that was cut.

    按配方训练文本分类模型并写入运行目录。

    best/ is a model folder with classifier.safetensors and labels.json beside it: `hanformer.load(RUN)` opens the
    Transformer. Raises UserError for unusable data, a folder that already holds a run, and whatever cannot be written.
    """

    def prepare(run: Path | None) -> Prepared[Any]:
        texts = chain((row.text for row in data.train), data.unlabelled)
        if run is None:
            return _prepared(recipe, data, make_tokenizer(recipe, texts))
        # The order of the classes is that of the weights, whatever the class file says by now.
        kept = replace(data, names=ClassNames.load(run))
        return _prepared(recipe, kept, load_tokenizer(run))

    return train_run(
        run_folder, TASK, data.source, recipe, prepare, device=device, reporter=reporter, resume=resume
    )


def _prepared(recipe: ClassifyRecipe, data: ClassifyData, tokenizer: Tokenizer) -> Prepared[Any]:
    kind, names = recipe.kind, data.names
    fit = ClassifierFit(
        recipe,
        tokenizer,
        names,
        text_examples(recipe, tokenizer, names, data.train),
        text_examples(recipe, tokenizer, names, data.valid),
        decision_of(kind.many, recipe.thresholds, kind.tuned, len(names)),
    )
    objective, source = fit.objective(), fit.source()
    if data.unlabelled:
        objective = with_unlabelled(objective, _penalty(recipe), recipe.unlabelled_strength)
        source = SideBySideSource(source, _unlabelled(recipe, data.unlabelled, tokenizer))
    return fit.prepared(objective, source, {"unlabelled_texts": len(data.unlabelled)})


def text_examples(
    recipe: ClassifyRecipe, tokenizer: Tokenizer, names: ClassNames, rows: Sequence[LabelledText]
) -> Examples:
    """Labelled texts as examples. 文本转为样本。"""
    found = [text_windows(tokenizer, row.text, recipe.maximum_length, recipe.overlap) for row in rows]
    targets = names.targets([row.labels for row in rows])
    return Examples(found, class_labels(targets, recipe.kind.many))


def _unlabelled(
    recipe: ClassifyRecipe, texts: Sequence[str], tokenizer: Tokenizer
) -> BatchSource[LabelledBatch]:
    rows = (text_windows(tokenizer, text, recipe.maximum_length, recipe.overlap) for text in texts)
    return unlabelled_examples(rows).batches(recipe.token_budget, recipe.train.seed)


def _penalty(recipe: ClassifyRecipe) -> Objective[LabelledBatch]:
    kind = recipe.kind
    if recipe.penalty == "vat":
        return instability(scores_of, differing=kind.divergence)
    if recipe.penalty == "noise":
        return sensitivity(scores_of, of=kind.probe)
    return agreement(scores_of, kind.symmetric_divergence)


def classify(loss_of: LossOf) -> Objective[LabelledBatch]:
    """The objective of a classifier: a loss of scores and labels, which stand in its outputs.

    分类目标函数；outputs 中含 logits 与 labels。
    """

    def objective(model: nn.Module, batch: LabelledBatch) -> Loss:
        scores = scores_of(model, batch)
        labels = batch.labels.to(scores.device)
        loss = loss_of(scores, labels)
        return Loss(loss.total, loss.count, {"logits": scores, "labels": labels})

    return objective


class ClassifierFit:
    """What a classifying task is made of, on its way to the trainer: examples, names and how scores are decided.

    分类任务训练所需的各部分。
    """

    def __init__(
        self,
        recipe: ClassifierRecipe,
        tokenizer: Tokenizer,
        names: ClassNames,
        train: Examples,
        valid: Examples,
        decision: Decision,
    ) -> None:
        self.recipe, self.tokenizer, self.names = recipe, tokenizer, names
        self.train, self.valid, self.decision = train, valid, decision
        self.model: Classifier = make_classifier(recipe, tokenizer, len(names))

        def same(run: Path) -> bool:
            return ClassNames.load(run).names == names.names

        recipe.check_head(inherit_part(self.model.classifier, "classifier", recipe.start_from, same))
        balance = recipe.kind.balance if recipe.class_weights == "balanced" else None
        weights = None if balance is None else balance(targets_of(train.labels, len(names)))
        self.loss_of = recipe.kind.make(weights, recipe.label_smoothing)

    def objective(self) -> Objective[Any]:
        """The loss of the recipe inside its tricks."""
        return class_tricks(self.recipe.tricks, self.recipe.kind, self.loss_of)(classify(self.loss_of))

    def source(self) -> BatchSource[Any]:
        """Shuffled batches."""
        return self.train.batches(self.recipe.token_budget, self.recipe.train.seed)

    def prepared(
        self, objective: Objective[Any], source: BatchSource[Any], counts: Mapping[str, int]
    ) -> Prepared[Any]:
        """All of it for the trainer, with further counts for run.toml."""
        return Prepared(
            self.model,
            objective,
            source,
            size_of,
            self._accompany,
            self._describe,
            self.validation(),
            {
                "training_rows": len(self.train),
                "validation_rows": len(self.valid),
                "classes": len(self.names),
                **counts,
            },
        )

    def validation(self) -> Validation:
        """Mean loss of the held-out rows, and the figures of what is decided; thresholds are learned here."""
        plain = self.recipe.kind.make(None, 0.0)
        targets = targets_of(self.valid.labels, len(self.names))

        def validate(model: nn.Module) -> Mapping[str, float]:
            scores = self.valid.scores(lambda batch: scores_of(model, batch), self.recipe.token_budget)
            self.decision.learn(scores, targets)
            found = figures_of(count_labels(self.decision.decide(scores), targets))
            return {"loss": float(plain(scores, self.valid.labels).mean()), **found}

        return validate

    def _accompany(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        self.names.save(folder)

    def _describe(self, folder: Path) -> None:
        write_config(self.model.transformer, folder)
        self.decision.save(folder)


def targets_of(labels: Tensor, classes: int) -> Tensor:
    """Labels as losses want them back to bool [n, K]. 由标签还原布尔矩阵。"""
    return labels.bool() if labels.dim() == 2 else torch.nn.functional.one_hot(labels, classes).bool()


def size_of(batch: Any) -> int:
    """Tokens of a batch, those without labels too. 批次的词元数。"""
    if isinstance(batch, SideBySide):
        return size_of(batch.labelled) + size_of(batch.unlabelled)
    total: int = batch.layout.total
    return total
