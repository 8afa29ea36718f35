"""What keeps a recurrent language model from learning its text by heart: the dropouts of AWD-LSTM."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.errors import UserError


def check_rate(name: str, rate: float) -> None:
    """Raises UserError unless 0 <= rate < 1. 检查失活率。"""
    if not 0 <= rate < 1:
        raise UserError(f"{name}: expected a rate from 0 up to 1, got {rate}")


class LockedDropout(nn.Module):
    """Dropout with one mask [B, C] for all steps of a sequence.

    变分失活：整段序列共用一个掩码。

    Shapes: [L, B, C] to the same. Source: Gal and Ghahramani 2016, arXiv 1512.05287.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        check_rate("locked dropout", rate)
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, some channels of some rows zero in training, the others scaled by 1/(1 - rate)."""
        if not self.training or not self.rate:
            return x
        return x * _mask(x, x.shape[1:], self.rate) / (1 - self.rate)


class WeightDrop(nn.Module):
    """In training U with entries zeroed by chance, drawn once a sequence and not scaled; afterwards (1 - rate) U.

    循环权重失活：训练时按序列抽一次掩码且不放大，评估时乘以 1 - rate。

    Source: Merity et al. 2018, arXiv 1708.02182; the scale is that of the authors of ON-LSTM.
    Differs from inverted dropout, which would scale in training.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        check_rate("weight drop", rate)
        self.rate = rate

    def forward(self, weight: Tensor) -> Tensor:
        """The matrix that a sequence runs with. 本段序列所用的循环矩阵。"""
        if not self.rate:
            return weight
        return weight * _mask(weight, weight.shape, self.rate) if self.training else weight * (1 - self.rate)


class DroppedEmbedding(nn.Module):
    """A table of word vectors, of which whole words are dropped for a batch.

    词向量表；训练时按批整词失活。

    Shapes: ids of any shape [...] to [..., C]. Source: Gal and Ghahramani 2016, arXiv 1512.05287.
    """

    def __init__(self, vocabulary_size: int, size: int, rate: float) -> None:
        super().__init__()
        check_rate("embedding dropout", rate)
        self.table = nn.Embedding(vocabulary_size, size)
        self.rate = rate

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of the words; those of a dropped word are zero everywhere, the others scaled by 1/(1 - rate)."""
        vectors: Tensor = self.table(ids)
        if not self.training or not self.rate:
            return vectors
        kept = _mask(self.table.weight, torch.Size((self.table.num_embeddings,)), self.rate)
        return vectors * functional.embedding(ids, kept[:, None]) / (1 - self.rate)


def _mask(like: Tensor, shape: torch.Size, rate: float) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - rate)
