"""A Transformer with pooling and a classifier upon it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from hanformer.models import Transformer, load
from hanformer.models.language_model import initialise
from hanformer.similarity.pooling import run_of
from hanformer.tasks.classify.examples import LabelledBatch
from hanformer.tasks.classify.recipe import ClassifierRecipe
from hanformer.tasks.freezing import freeze_lowest
from hanformer.tasks.text_recipe import make_transformer
from hanformer.text.protocols import Tokenizer
from hanformer.train.parts import load_part

APPLICATION = "encoder"


class ClassScores(nn.Module):
    """Dropout and a linear map: [B, C] to [B, K]. 分类层。"""

    def __init__(self, size: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(size, classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """One score a class."""
        scores: Tensor = self.dense(self.dropout(pooled))
        return scores


class Classifier(nn.Module):
    """One vector of each row by a pooling, and a score for every class, as the link of the loss makes it.

    对每行池化得到一个向量，再给出各类打分（按损失的 link 变换）。
    """

    def __init__(
        self,
        transformer: Transformer,
        classifier: ClassScores,
        pooling: str,
        link: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.transformer, self.classifier = transformer, classifier
        self._pooled, self._link = run_of(pooling, transformer), link

    def forward(self, batch: LabelledBatch) -> Tensor:
        """A packed batch to [B, K]."""
        scores: Tensor = self.classifier(self._pooled(batch.token_ids, batch.layout))
        return scores if self._link is None else self._link(scores)


def make_classifier(recipe: ClassifierRecipe, tokenizer: Tokenizer, classes: int) -> Classifier:
    """A new classifier upon a new or a pretrained Transformer, its lowest layers frozen as the recipe says.

    新建分类模型；可冻结预训练模型的低层。

    Raises UserError as `make_transformer` and `freeze_lowest` do.
    """
    transformer = make_transformer(recipe, tokenizer, APPLICATION, heads_of(recipe))
    config = transformer.config
    scores = ClassScores(config.hidden_size, classes, config.dropout)
    initialise(scores, config.initial_deviation)
    freeze_lowest(transformer, recipe.freeze)
    return Classifier(transformer, scores, recipe.pooling, recipe.kind.link)


def open_classifier(
    folder: Path, recipe: ClassifierRecipe, classes: int, device: str, dtype: torch.dtype
) -> Classifier:
    """The classifier of a finished run, ready for inference. 打开训练好的分类模型。

    Raises UserError for missing, broken or foreign files.
    """
    transformer = load(folder, application=APPLICATION, heads=heads_of(recipe), device=device, dtype=dtype)
    scores = ClassScores(transformer.config.hidden_size, classes, 0.0)
    load_part(scores, "classifier", folder)
    weight = transformer.embeddings.token.weight
    scores.to(weight.device, weight.dtype)
    return Classifier(transformer, scores, recipe.pooling, recipe.kind.link).eval()


def heads_of(recipe: ClassifierRecipe) -> tuple[str, ...]:
    """The heads that the pooling needs. 池化所需的输出头。"""
    return ("pool",) if recipe.pooling == "pooled" else ()


def scores_of(model: nn.Module, batch: LabelledBatch) -> Tensor:
    """The scores [B, K] of a batch, wherever the model is. 批次的打分。"""
    scores: Tensor = model(batch.to(next(model.parameters()).device))
    return scores
