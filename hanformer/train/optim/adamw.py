"""The default rule: torch's fused AdamW."""

from __future__ import annotations

import torch

from hanformer.train.optim.base import ParameterGroups
from hanformer.train.options import TrainOptions


def adamw(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """torch's AdamW, fused on CPU and CUDA.

    torch 自带的融合 AdamW。

    Source: Loshchilov and Hutter, arXiv 1711.05101.
    """
    device = groups[0]["params"][0].device
    return torch.optim.AdamW(
        groups,
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.epsilon,
        fused=device.type in ("cpu", "cuda"),
    )
