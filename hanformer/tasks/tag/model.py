"""A Transformer with a head that tags, in memory and in a run folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from hanformer.models import Transformer, load
from hanformer.models.language_model import initialise
from hanformer.tasks.freezing import freeze_lowest
from hanformer.tasks.tag.batches import Example, TagBatch
from hanformer.tasks.tag.heads import POINTERS, TagHead, head_named
from hanformer.tasks.tag.labels import LabelSet
from hanformer.tasks.tag.recipe import TagRecipe
from hanformer.tasks.text_recipe import make_transformer
from hanformer.text.protocols import Tokenizer
from hanformer.train.objective import Loss
from hanformer.train.parts import load_part

PART = "tagger"


class TaggingModel(nn.Module):
    """A Transformer and a head: packed windows to scores. 带标注输出层的 Transformer。"""

    def __init__(self, transformer: Transformer, tagger: TagHead) -> None:
        super().__init__()
        self.transformer, self.tagger = transformer, tagger

    def forward(self, batch: TagBatch) -> Tensor:
        """The head's scores of a packed batch."""
        stack = self.transformer
        hidden = stack.body(stack.embed(batch.token_ids, batch.layout), batch.layout)
        scores: Tensor = self.tagger(hidden, batch)
        return scores


def tagging_loss(model: nn.Module, batch: TagBatch) -> Loss:
    """The objective of tagging: the loss of the model's head. 标注任务的目标函数。"""
    tagging = cast(TaggingModel, model)
    batch = batch.to(tagging.transformer.device)
    return tagging.tagger.loss(tagging(batch), batch)


def label_set(recipe: TagRecipe, kinds: Sequence[str]) -> LabelSet:
    """The labels of a recipe: words cover the text, entities do not. 配方的标签集合。"""
    if recipe.scheme == "segmentation":
        return LabelSet(tuple(kinds), "bmes", outside=False)
    return LabelSet(tuple(kinds), recipe.labels)


def make_model(
    recipe: TagRecipe, tokenizer: Tokenizer, labels: LabelSet, weights: Tensor | None = None
) -> TaggingModel:
    """A new head over a new Transformer, or over the pretrained one that the recipe names. 新建模型。

    Raises UserError as `make_transformer` and `freeze_lowest` do.
    """
    transformer = make_transformer(recipe, tokenizer, "encoder", ())
    freeze_lowest(transformer, recipe.freeze)
    head = _head(recipe, transformer, labels, weights)
    initialise(head, transformer.config.initial_deviation)
    return TaggingModel(transformer, head)


def load_model(
    folder: Path, recipe: TagRecipe, labels: LabelSet, device: torch.device, dtype: torch.dtype
) -> TaggingModel:
    """The model that a run keeps in its best/, ready for use.

    打开训练好的标注模型。

    Raises UserError for missing, broken or foreign files.
    """
    transformer = load(folder, heads=())
    assert isinstance(transformer, Transformer)
    head = _head(recipe, transformer, labels, None)
    load_part(head, PART, folder)
    return TaggingModel(transformer, head).to(device, dtype).eval()


def balanced_weights(recipe: TagRecipe, labels: LabelSet, examples: Iterable[Example]) -> Tensor | None:
    """total / (number of classes · count) of every label (or kind, for pointers); None where the recipe wants none.

    按频次平衡的类别权重。

    A class without an example weighs 1.
    """
    if recipe.class_weights == "none":
        return None
    pointing = recipe.head in POINTERS
    counts = torch.zeros(len(labels.kinds) if pointing else len(labels))
    for example in examples:
        named = [span.kind for span in example.spans] if pointing else example.labels
        counts += torch.bincount(torch.tensor(named, dtype=torch.int64), minlength=len(counts))
    return (counts.sum() / (len(counts) * counts)).where(counts > 0, torch.ones_like(counts))


def _head(recipe: TagRecipe, transformer: Transformer, labels: LabelSet, weights: Tensor | None) -> TagHead:
    return head_named(
        recipe.head,
        transformer.config.hidden_size,
        labels,
        rate=recipe.transition_rate,
        head_size=recipe.head_size,
        weights=weights,
    )
