"""A Transformer that makes one vector of every text, and batches of pairs for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn

from hanformer.data.batches import TokenBudgetBatches
from hanformer.models import Transformer, load
from hanformer.similarity.pooling import run_of
from hanformer.tasks.classify.examples import Examples, LabelledBatch, Window, pack
from hanformer.tasks.classify.model import APPLICATION, heads_of
from hanformer.tasks.freezing import freeze_lowest
from hanformer.tasks.pair.recipe import PairRecipe
from hanformer.tasks.text_recipe import make_transformer
from hanformer.text.protocols import Tokenizer
from hanformer.train.losses.cosent import pair_cosines


class Embedder(nn.Module):
    """One vector of each row, by a pooling. 句向量模型。"""

    def __init__(self, transformer: Transformer, pooling: str) -> None:
        super().__init__()
        self.transformer = transformer
        self._pooled = run_of(pooling, transformer)

    def forward(self, batch: LabelledBatch) -> Tensor:
        """A packed batch to [B, C]."""
        return self._pooled(batch.token_ids, batch.layout)


def make_embedder(recipe: PairRecipe, tokenizer: Tokenizer) -> Embedder:
    """A new or pretrained model; raises UserError as `make_transformer` does. 新建或打开句向量模型。"""
    transformer = make_transformer(recipe, tokenizer, APPLICATION, heads_of(recipe))
    freeze_lowest(transformer, recipe.freeze)
    return Embedder(transformer, recipe.pooling)


def open_embedder(best: Path, recipe: PairRecipe, device: str, dtype: torch.dtype) -> Embedder:
    """The model of a finished run. 打开训练好的句向量模型。"""
    model = load(best, application=APPLICATION, heads=heads_of(recipe), device=device, dtype=dtype)
    return Embedder(model, recipe.pooling).eval()


@dataclass(frozen=True, eq=False)
class Partners:
    """Examples of two texts each, cut into windows, with a label [n] each. 成对样本。"""

    windows: Sequence[tuple[Sequence[Window], Sequence[Window]]]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.windows)

    def batches(self, token_budget: int, seed: int) -> TokenBudgetBatches[LabelledBatch]:
        """Shuffled batches with the two texts of a pair in neighbouring rows, a window drawn of each."""
        lengths = [sum(max(len(window.ids) for window in text) for text in pair) for pair in self.windows]
        return TokenBudgetBatches(lengths, token_budget, self._drawn, seed=seed)

    def _drawn(self, indices: Sequence[int], random: Random) -> LabelledBatch:
        rows = [random.choice(text) for index in indices for text in self.windows[index]]
        return pack(rows, self.labels[list(indices)])

    def cosines(self, model: nn.Module, token_budget: int) -> Tensor:
        """The cosine of each pair, a text's vector being the mean of its windows': float32 [n]."""
        texts = [text for pair in self.windows for text in pair]
        examples = Examples(texts, torch.zeros(len(texts)))
        return pair_cosines(examples.scores(lambda batch: vectors_of(model, batch), token_budget))


def vectors_of(model: nn.Module, batch: LabelledBatch) -> Tensor:
    """The vectors of a batch, wherever the model is. 批次的向量。"""
    vectors: Tensor = model(batch.to(next(model.parameters()).device))
    return vectors
