"""Layers that stay as they were when a pretrained model is trained for a task."""

from __future__ import annotations

from hanformer.errors import UserError
from hanformer.models import Transformer


def freeze_lowest(model: Transformer, layers: int) -> None:
    """The embeddings and so many of the lowest layers learn nothing from now on; 0 freezes nothing.

    冻结嵌入层与最低的若干层；0 表示不冻结。

    Raises UserError for more layers than there are, and where all layers share their weights.
    """
    if not layers:
        return
    if not 0 < layers <= model.config.layers:
        raise UserError(f"freeze: expected 0 to {model.config.layers} layers of this model, got {layers}")
    if model.config.share_layers and layers < model.config.layers:
        raise UserError(
            f"freeze: all layers of this model share their weights; freeze 0 or {model.config.layers} of them"
        )
    frozen = [model.embeddings, *(block for layer, block in model.stack.each() if layer < layers)]
    for part in frozen:
        part.requires_grad_(False)
