"""The smallest model with a token table: embeddings, a matrix, a softmax; all of it is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.train.objective import Loss

WIDTH, CLASSES = 6, 4


class Linear(nn.Module):
    """Logits W Σ_t e_t of ids [B, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, WIDTH)
        self.output = nn.Linear(WIDTH, CLASSES, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.output(self.table(ids).sum(1))
        return logits


def linear(seed: int = 0) -> Linear:
    torch.manual_seed(seed)
    return Linear().double()


def objective(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Loss:
    """Summed cross-entropy of [B, T] ids and [B] labels."""
    logits = model(batch[0])
    total = F.cross_entropy(logits, batch[1], reduction="sum")
    return Loss(total, len(batch[1]), {"logits": logits, "labels": batch[1]})


def hessian(model: Linear, ids: Tensor) -> Tensor:
    """Of KL(p(e) ‖ p(e + d)) by d at 0, for a text of one token: Wᵀ (diag p − p pᵀ) W."""
    weight = model.output.weight.detach()
    p = model(ids[None]).softmax(-1)[0].detach()
    return weight.T @ (p.diag() - p[:, None] * p) @ weight
