"""The smallest things to train: a model with dropout and a tie, batches of unequal length, an objective."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.train.objective import Loss

TinyBatch = tuple[Tensor, Tensor]
VOCABULARY = 11


class TinyModel(nn.Module):
    """Embedding, norm, a dropped hidden layer, and an output tied to the embedding."""

    def __init__(self, dropout: float = 0.0, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, VOCABULARY, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, token_ids: Tensor) -> Tensor:
        hidden = self.dropout(torch.tanh(self.hidden(self.norm(self.embedding(token_ids)))))
        logits: Tensor = self.output(hidden)
        return logits


class TinySource:
    """Batches of unequal length that depend on (seed, epoch) alone."""

    def __init__(self, sizes: Sequence[int] = (5, 2, 7, 1, 4), seed: int = 3) -> None:
        self.sizes = sizes
        self.seed = seed

    def batches(self, epoch: int) -> list[TinyBatch]:
        generator = torch.Generator().manual_seed(self.seed * 1000 + epoch)
        return [
            (
                torch.randint(VOCABULARY, (size,), generator=generator),
                torch.randint(VOCABULARY, (size,), generator=generator),
            )
            for size in self.sizes
        ]


class SameSource:
    """The same batches in each epoch."""

    def __init__(self, batches: list[TinyBatch]) -> None:
        self._batches = batches

    def batches(self, epoch: int) -> list[TinyBatch]:
        return self._batches


def objective(model: nn.Module, batch: TinyBatch) -> Loss:
    """Summed cross-entropy and the number of targets."""
    token_ids, targets = batch
    return Loss(F.cross_entropy(model(token_ids), targets, reduction="sum"), targets.numel())


def tiny_model(seed: int = 0, dropout: float = 0.0) -> TinyModel:
    """A model whose weights depend on the seed alone."""
    torch.manual_seed(seed)
    return TinyModel(dropout)


def same_weights(left: nn.Module, right: nn.Module) -> bool:
    """Equal bit for bit, buffers too."""
    theirs = right.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in left.state_dict().items())
