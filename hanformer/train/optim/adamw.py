"""The default rule: torch's fused AdamW."""

from __future__ import annotations

import torch

from hanformer.train.optim.base import ParameterGroups
from hanformer.train.options import TrainOptions


def adamw(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
    """torch's AdamW, fused on CPU and CUDA where all parameters are contiguous.

    torch 自带的融合 AdamW。

    On a CPU the fused kernel walks through memory and gives wrong weights, without a word, where a parameter and
    its gradient are not laid out alike (found in torch 2.13); such a model gets the other form of torch's AdamW.

    Source: Loshchilov and Hutter, arXiv 1711.05101.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    known = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(
        groups,
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.epsilon,
        fused=known and all(parameter.is_contiguous() for parameter in parameters),
    )
