"""One condition for all that a model reads: folded into its norms, which makes it a model without conditions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.models.skeletons import like
from hanformer.models.transformer import Transformer
from hanformer.nn.layers.norm import LayerNorm, RMSNorm


@torch.no_grad()
def under_condition(model: Transformer, condition: Tensor) -> Transformer:
    """The model as it is under one condition [c]: γ' = γ + W_γ h(c), β' = β + W_β h(c) in every norm.

    固定条件下的模型：条件并入各归一化层的增益与偏置，此后与普通模型无异，可用任何方式生成。

    It shares all other weights with `model`, decodes by every rule and with every cache, and is saved as any model.
    Raises UserError for a model without conditional norms, and for a condition of another shape.
    Source: kexue.fm/archives/7124.
    """
    size = model.config.condition_size
    if size is None or list(condition.shape) != [size]:
        wanted = "a model built with condition_size" if size is None else f"a condition of shape [{size}]"
        raise UserError(
            f"under_condition: expected {wanted}, got a condition of shape {list(condition.shape)}"
        )
    made = like(model)
    for norm in made.modules():
        if isinstance(norm, (LayerNorm, RMSNorm)) and norm.conditioning is not None:
            _fold(norm, condition)
    kind = "rms" if model.config.norm == "rms_plain" else model.config.norm
    made.config = model.config.changed({"condition_size": None, "condition_hidden_size": None, "norm": kind})
    return made


def _fold(norm: LayerNorm | RMSNorm, condition: Tensor) -> None:
    conditioning = norm.conditioning
    assert conditioning is not None
    known = conditioning.hidden(condition)
    moved = conditioning.gain(known)
    norm.weight = nn.Parameter(1 + moved if norm.weight is None else norm.weight + moved)
    if isinstance(norm, LayerNorm) and conditioning.bias is not None:
        norm.bias = nn.Parameter(norm.bias + conditioning.bias(known))
    norm.conditioning = None
