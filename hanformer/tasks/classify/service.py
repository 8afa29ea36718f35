"""A classification run at work: judged on labelled texts, and naming the labels of new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.runtime import inference_dtype
from hanformer.tasks.classify.decisions import Decision, decision_of
from hanformer.tasks.classify.examples import Examples, Window, text_windows, unlabelled_examples
from hanformer.tasks.classify.labels import ClassNames
from hanformer.tasks.classify.model import Classifier, open_classifier, scores_of
from hanformer.tasks.classify.recipe import ClassifierRecipe, ClassifyRecipe
from hanformer.tasks.classify.scoring import figures_of, report
from hanformer.tasks.classify.texts import check_labels, read_texts, rows_to_judge
from hanformer.tasks.classify.training import TASK
from hanformer.tasks.serving import Evaluated, Service, ServingOptions
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.losses.multilabel import count_labels
from hanformer.train.runs import open_run, recipe_of

Cut = Callable[[Tokenizer, str], list[Window]]
"""A line of text to the windows that are read. 把一行输入切成窗口。"""


class Judge:
    """A finished classifier: windows to scores, scores to labels and their probabilities.

    训练好的分类器：窗口到打分、打分到标签与概率。
    """

    def __init__(
        self,
        model: Classifier,
        tokenizer: Tokenizer,
        names: ClassNames,
        decision: Decision,
        recipe: ClassifierRecipe,
    ) -> None:
        self.model, self.tokenizer, self.names = model, tokenizer, names
        self.decision, self.recipe = decision, recipe

    @torch.inference_mode()
    def scores(self, examples: Examples) -> Tensor:
        """Mean scores [n, K] of examples."""
        return examples.scores(lambda batch: scores_of(self.model, batch), self.recipe.token_budget)

    def evaluated(
        self,
        title: str,
        rows: Sequence[Sequence[Window]],
        labels: Sequence[tuple[str, ...]],
        texts: list[str],
    ) -> Evaluated:
        """What is found in rows whose labels are known."""
        scores = self.scores(unlabelled_examples(rows))
        decided, targets = self.decision.decide(scores), self.names.targets(labels)
        said = [self._labels(row) for row in decided]
        lines = [
            {"text": text, "labels": list(true), "predicted": found, "right": set(true) == set(found)}
            for text, true, found in zip(texts, labels, said, strict=True)
        ]
        text = report(decided, targets, self.names, self.recipe.kind.many)
        return Evaluated(f"{title}\n{text}", figures_of(count_labels(decided, targets)), lines)

    def _labels(self, decided: Tensor) -> list[str]:
        return [self.names.names[place] for place in decided.nonzero().flatten().tolist()]

    def answers(self, texts: Sequence[str], cut: Cut) -> list[str | UserError]:
        """Labels with probabilities for every text, or why it cannot be read."""
        read = [_or_error(cut, self.tokenizer, text) for text in texts]
        windows = [found for found in read if not isinstance(found, UserError)]
        said = iter(self._said(windows) if windows else ())
        return [found if isinstance(found, UserError) else next(said) for found in read]

    def _said(self, windows: Sequence[Sequence[Window]]) -> list[str]:
        scores = self.scores(unlabelled_examples(windows))
        probabilities = self.recipe.kind.probabilities(scores)
        return [
            "\t".join(f"{self.names.names[place]} {row[place]:.4f}" for place in _by_size(row, decided))
            or "-"
            for row, decided in zip(probabilities, self.decision.decide(scores), strict=True)
        ]


def _by_size(row: Tensor, decided: Tensor) -> list[int]:
    order: list[int] = row.argsort(descending=True).tolist()
    return [place for place in order if decided[place]]


def _or_error(cut: Cut, tokenizer: Tokenizer, text: str) -> list[Window] | UserError:
    try:
        return cut(tokenizer, text)
    except UserError as error:
        return error


def open_judge(best: Path, recipe: ClassifierRecipe, decision: Decision, options: ServingOptions) -> Judge:
    """The classifier in a checkpoint. Raises UserError where a part of it is missing. 打开分类器。"""
    names = ClassNames.load(best)
    decision.load(best)
    dtype = inference_dtype(options.precision, torch.device(options.device))
    model = open_classifier(best, recipe, len(names), options.device, dtype)
    return Judge(model, load_tokenizer(best), names, decision, recipe)


class ClassifyService(Service):
    """Names the labels of texts. 为文本分类。"""

    def __init__(self, judge: Judge, recipe: ClassifyRecipe) -> None:
        self.judge, self.recipe = judge, recipe

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Accuracy, F1, a table of classes and confusions, on the test rows of a data set or all of a file.

        准确率、F1、逐类指标与混淆矩阵。

        Raises UserError for `without`, which has no meaning here, and for labels that the run does not know.
        """
        refuse_without(without)
        rows = rows_to_judge(data, lambda file: read_texts(file, self.recipe))
        check_labels(self.judge.names, rows, data)
        windows = [self._cut(self.judge.tokenizer, row.text) for row in rows]
        labels, texts = [row.labels for row in rows], [row.text for row in rows]
        return self.judge.evaluated(f"{data}: {len(rows)} texts", windows, labels, texts)

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """The labels of each text with their probabilities, the most probable first; "-" for none. 预测标签。"""
        return self.judge.answers(texts, self._cut)

    def _cut(self, tokenizer: Tokenizer, text: str) -> list[Window]:
        if not text.strip():
            raise UserError("expected a text, got an empty line")
        return text_windows(tokenizer, text.strip(), self.recipe.maximum_length, self.recipe.overlap)


def refuse_without(without: Path | None) -> None:
    """Raises UserError for an option of word problems. 拒绝不适用的选项。"""
    if without is not None:
        raise UserError("--without is for word problems; leave it out")


def open_service(run: Path, options: ServingOptions) -> ClassifyService:
    """The classifier of a run. Raises UserError as `open_run` does. 打开训练好的模型。"""
    best, description = open_run(run, TASK)
    recipe = recipe_of(ClassifyRecipe(), description, best.parent)
    kind = recipe.kind
    decision = decision_of(kind.many, recipe.thresholds, kind.tuned, len(ClassNames.load(best)))
    return ClassifyService(open_judge(best, recipe, decision, options), recipe)
