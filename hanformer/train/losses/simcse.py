"""InfoNCE: a vector should be nearer to its own partner than to anyone else's."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.numerics import unit, widened
from hanformer.train.losses.simbert import similar_pairs


def simcse(vectors: Tensor, scale: float = 20.0, *, others: Tensor | None = None) -> Tensor:
    """SimCSE: the same sentence twice, under two dropouts, in rows 2i and 2i + 1; one number a row.

    SimCSE：同一句子经两次 dropout 得到的两个向量互为正例，批内其余为负例。

    `similar_pairs` with temperature 1/20. Shapes: vectors [2B, C], others [M, C] or None; to [2B].
    Raises UserError for an odd number of rows.
    Source: Gao et al., arXiv 2104.08821; kexue.fm/archives/8348.
    """
    return similar_pairs(vectors, scale, others=others)


def info_nce(queries: Tensor, keys: Tensor, places: Tensor | None = None, scale: float = 20.0) -> Tensor:
    """−log softmax(scale · cos(q_i, k_j)) at the key of each query, one number a query.

    InfoNCE：查询应与自己的键最相似；多余的键是难负例。

    Keys beyond those that are anyone's are hard negatives. Shapes: queries [B, C], keys [M, C], places int64 [B], the
    key of each query, or None for i; to [B], in fp32 at least.
    Raises UserError for too few keys, or vectors of different size.
    Source: van den Oord et al., arXiv 1807.03748.
    """
    if queries.shape[-1] != keys.shape[-1] or (places is None and len(keys) < len(queries)):
        raise UserError(
            f"info_nce: expected a key of the same size for every query, got queries {list(queries.shape)} "
            f"and keys {list(keys.shape)}"
        )
    places = torch.arange(len(queries), device=queries.device) if places is None else places
    similarities = unit(widened(queries)) @ unit(widened(keys)).T
    return F.cross_entropy(scale * similarities, places, reduction="none")


def flat_nce(queries: Tensor, keys: Tensor, scale: float = 20.0) -> Tensor:
    """InfoNCE's direction without its vanishing size: ξ / stop(ξ), ξ = Σ_{j ≠ i} e^{scale (cos_ij − cos_ii)}.

    FlatNCE：损失值恒为一，梯度不随正例变易而消失，小批次也能训练。

    Its value is always 1; only the gradient means something. Shapes: queries [B, C], keys [M, C], key i that of query
    i, at least two keys; to [B]. Raises UserError for fewer.
    Source: Chen et al., arXiv 2107.01152; kexue.fm/archives/8586.
    """
    if len(keys) < max(2, len(queries)) or queries.shape[-1] != keys.shape[-1]:
        raise UserError(
            f"flat_nce: expected two keys or more and one for every query, got queries {list(queries.shape)} "
            f"and keys {list(keys.shape)}"
        )
    similarities = scale * (unit(widened(queries)) @ unit(widened(keys)).T)
    own = similarities.diagonal()
    itself = torch.eye(len(queries), len(keys), dtype=torch.bool, device=queries.device)
    excess = (similarities - own[:, None]).masked_fill(itself, -math.inf).logsumexp(-1)
    return (excess - excess.detach()).exp()
