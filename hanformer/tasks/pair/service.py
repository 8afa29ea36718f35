"""A run on pairs at work: judged on labelled pairs, and answering for new ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hanformer.errors import UserError
from hanformer.runtime import inference_dtype
from hanformer.tasks.classify.decisions import Highest
from hanformer.tasks.classify.examples import Window, windows_of_pair
from hanformer.tasks.classify.service import Judge, open_judge, refuse_without
from hanformer.tasks.classify.texts import check_labels
from hanformer.tasks.pair.model import Embedder, open_embedder
from hanformer.tasks.pair.recipe import PairRecipe
from hanformer.tasks.pair.rows import LabelledPair, pairs_to_judge
from hanformer.tasks.pair.training import TASK, correlations, partners
from hanformer.tasks.serving import Evaluated, Service, ServingOptions
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.runs import open_run, recipe_of


class PairClassService(Service):
    """The class of a pair. 文本对分类。"""

    def __init__(self, judge: Judge, recipe: PairRecipe) -> None:
        self.judge, self.recipe = judge, recipe

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Accuracy, F1, a table of classes and confusions, on the labelled test pairs. 分类评测。

        Raises UserError for `without`, and for labels that the run does not know.
        """
        refuse_without(without)
        rows, left = pairs_to_judge(data, self.recipe)
        check_labels(self.judge.names, rows, data)
        windows = [self._windows(self.judge.tokenizer, row.first, row.second) for row in rows]
        return self.judge.evaluated(
            _title(data, len(rows), left),
            windows,
            [row.labels for row in rows],
            [f"{row.first}\t{row.second}" for row in rows],
        )

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """The class and its probability, of two texts with a tab between them. 预测类别。"""
        return self.judge.answers(texts, self._cut)

    def _cut(self, tokenizer: Tokenizer, line: str) -> list[Window]:
        return self._windows(tokenizer, *two_texts(line))

    def _windows(self, tokenizer: Tokenizer, first: str, second: str) -> list[Window]:
        return windows_of_pair(tokenizer, first, second, self.recipe.maximum_length, self.recipe.overlap)


class SimilarityService(Service):
    """How alike two texts are. 文本相似度。"""

    def __init__(self, model: Embedder, tokenizer: Tokenizer, recipe: PairRecipe) -> None:
        self.model, self.tokenizer, self.recipe = model, tokenizer, recipe

    @torch.inference_mode()
    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Spearman's and Pearson's correlation of cosines and labels, on the labelled test pairs. 相关系数评测。

        Raises UserError for `without`, which has no meaning here.
        """
        refuse_without(without)
        rows, left = pairs_to_judge(data, self.recipe)
        pairs = partners(self.recipe, self.tokenizer, rows)
        cosines = pairs.cosines(self.model, self.recipe.token_budget)
        figures = correlations(cosines, pairs)
        said = ", ".join(f"{name} {figures[name]:.4f}" for name in ("spearman", "pearson"))
        lines = [
            {"first": row.first, "second": row.second, "label": float(row.labels[0]), "cosine": cosine}
            for row, cosine in zip(rows, cosines.tolist(), strict=True)
        ]
        return Evaluated(f"{_title(data, len(rows), left)}\n{said}", figures, lines)

    @torch.inference_mode()
    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """The cosine of two texts with a tab between them. 预测余弦相似度。"""
        read = [_pair_or_error(text) for text in texts]
        pairs = [found for found in read if not isinstance(found, UserError)]
        if not pairs:
            return [found for found in read if isinstance(found, UserError)]
        found = partners(self.recipe, self.tokenizer, pairs).cosines(self.model, self.recipe.token_budget)
        said = iter(found.tolist())
        return [row if isinstance(row, UserError) else f"{next(said):.4f}" for row in read]


def _pair_or_error(line: str) -> LabelledPair | UserError:
    try:
        return LabelledPair(0, *two_texts(line), ())
    except UserError as error:
        return error


def two_texts(line: str) -> tuple[str, str]:
    """Two texts with a tab between them; raises UserError for anything else. 以制表符分隔的两段文本。"""
    parts = [part.strip() for part in line.split("\t")]
    if len(parts) != 2 or not all(parts):
        raise UserError(
            f"expected two texts with a tab between them, got {len(parts)} in one line; "
            r"as in printf 'FIRST\tSECOND\n' | hanformer predict RUN"
        )
    return parts[0], parts[1]


def _title(data: str, count: int, left: int) -> str:
    return f"{data}: {count} pairs" + (f", {left} more without a label" if left else "")


def open_service(run: Path, options: ServingOptions) -> Service:
    """What a run on pairs was trained for. Raises UserError as `open_run` does. 打开训练好的模型。"""
    best, description = open_run(run, TASK)
    recipe = recipe_of(PairRecipe(), description, best.parent)
    if not recipe.compares:
        return PairClassService(open_judge(best, recipe, Highest(), options), recipe)
    dtype = inference_dtype(options.precision, torch.device(options.device))
    model = open_embedder(best, recipe, options.device, dtype)
    return SimilarityService(model, load_tokenizer(best), recipe)
