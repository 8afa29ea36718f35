"""One condition for all that a model reads: folded into its norms, which makes it a model without conditions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.models.skeletons import like
from hanformer.models.transformer import Transformer
from hanformer.nn.layers.norm import LayerNorm, RMSNorm


@torch.no_grad()
def under_condition(model: Transformer, condition: Tensor | str) -> Transformer:
    """The model as it is under one condition [c]: γ' = γ + W_γ h(c), β' = β + W_β h(c) in every norm.

    固定条件下的模型：条件并入各归一化层的增益与偏置，此后与普通模型无异，可用任何方式生成。

    The condition is a vector, or the name of one that the model has learned. The result shares all other weights with
    `model`, decodes by every rule and with every cache, and is saved as any model.
    Raises UserError for a model without conditional norms, for a condition of another shape, and for an unknown name.
    Source: kexue.fm/archives/7124.
    """
    if isinstance(condition, str):
        condition = _named(model, condition)
    size = model.config.condition_size
    if size is None or list(condition.shape) != [size]:
        wanted = "a model built with condition_size" if size is None else f"a condition of shape [{size}]"
        raise UserError(
            f"under_condition: expected {wanted}, got a condition of shape {list(condition.shape)}"
        )
    made = like(model)
    made.conditions = None
    for norm in made.modules():
        if isinstance(norm, (LayerNorm, RMSNorm)) and norm.conditioning is not None:
            _fold(norm, condition)
    kind = "rms" if model.config.norm == "rms_plain" else model.config.norm
    plain = {"condition_size": None, "condition_hidden_size": None, "conditions": (), "norm": kind}
    made.config = model.config.changed(plain)
    return made


def _named(model: Transformer, name: str) -> Tensor:
    known = model.config.conditions
    if model.conditions is None:
        raise UserError(f"condition {name!r}: this model has learned no conditions; leave it out")
    if name not in known:
        raise UserError(f"condition {name!r}: this model has learned {', '.join(known)}"[:300])
    return model.conditions.weight[known.index(name)]


def _fold(norm: LayerNorm | RMSNorm, condition: Tensor) -> None:
    conditioning = norm.conditioning
    assert conditioning is not None
    known = conditioning.hidden(condition[None])
    moved = conditioning.gain(known)[0]
    norm.weight = nn.Parameter(1 + moved if norm.weight is None else norm.weight + moved)
    if isinstance(norm, LayerNorm) and conditioning.bias is not None:
        norm.bias = nn.Parameter(norm.bias + conditioning.bias(known)[0])
    norm.conditioning = None
