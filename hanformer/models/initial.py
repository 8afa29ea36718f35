"""Weights that a file lacks: drawn, or of conditions, found again by their names.

文件中没有的权重：随机初始化；条件向量按名称对应。
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.runtime import within_memory

#: The vectors of the conditions that a model has learned, a row for each name.
CONDITIONS: Final = "conditions.weight"


def initial(name: str, shape: torch.Size, model: nn.Module, config: ModelConfig) -> Tensor:
    """Initial weights of one parameter of a model. 单个参数的初始值。

    Raises UserError where no memory holds them.
    """
    path, _, own = name.rpartition(".")
    owner = model.get_submodule(path)

    def said(asked: str) -> str:
        return (
            f"{name}: no memory for initial weights of shape {list(shape)}{asked}; does the config belong to these "
            "weights?"
        )

    with within_memory(said):
        chosen = owner.fresh(own) if isinstance(owner, SoftmaxAttention) else None
        return _drawn(name, shape, config) if chosen is None else chosen


def conditions_by_name(vectors: Tensor, saved: Sequence[str], config: ModelConfig) -> Tensor:
    """The vectors of the config's conditions: those that were saved follow their names, new ones are drawn.

    按名称取回已保存的条件向量，新条件随机初始化并给出警告。

    Shapes: [saved, c] to [conditions, c].
    """
    drawn = _drawn(CONDITIONS, torch.Size([len(config.conditions), vectors.shape[1]]), config)
    known = {name: vectors[place].to(drawn.dtype) for place, name in enumerate(saved)}
    if new := [name for name in config.conditions if name not in known]:
        warnings.warn(
            f"conditions that the model has not learned begin anew: {', '.join(new)}"[:300], stacklevel=2
        )
    found = [known.get(name, row) for name, row in zip(config.conditions, drawn, strict=True)]
    return torch.stack(found).to(vectors.dtype)


def _drawn(name: str, shape: torch.Size, config: ModelConfig) -> Tensor:
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    starts_at_zero = ".conditioning." in name and ".hidden." not in name
    if starts_at_zero or (len(shape) == 1 and name.endswith("bias")):
        return torch.zeros(shape)
    deviation = config.initial_deviation
    return nn.init.trunc_normal_(torch.empty(shape), std=deviation, a=-2 * deviation, b=2 * deviation)
