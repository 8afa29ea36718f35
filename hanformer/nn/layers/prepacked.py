"""Weights laid out once in the blocks that the processor multiplies, for decoding and encoding on a CPU.

预先按处理器的分块重排权重，加速 CPU 上的解码与编码。
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.layers.block import Block
from hanformer.nn.layers.heads import VocabularyHead

ModelT = TypeVar("ModelT", bound=nn.Module)

#: How far a packed product may be from the plain one, beside outputs of size 1.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
_TRIAL_ROWS = 2


class PackedLinear(nn.Module):
    """x Wᵀ + b with W in the layout of oneDNN; for inference. 权重按 oneDNN 布局重排的线性层。

    Shapes: [..., in] to [..., out].
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight: Tensor | None = None
        self.bias = bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        made: Tensor = torch.ops.mkldnn._linear_pointwise(hidden, self.packed, self.bias, "none", [], "")
        return made


class PackedHead(nn.Module):
    """A vocabulary head whose table is packed. 词表矩阵重排后的输出层。 Shapes: [M, C] to [M, V]."""

    def __init__(self, head: VocabularyHead, product: PackedLinear) -> None:
        super().__init__()
        self.head, self.product = head, product

    def forward(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """[M, C] to [M, V]."""
        logits: Tensor = self.product(self.head.features(hidden, condition))
        return logits


def prepacked(model: ModelT) -> ModelT:
    """The model for use on a CPU: its linear layers and vocabulary head hold a packed copy of their weights.

    供 CPU 推理使用的模型：线性层与输出层持有重排后的权重，原模型不变。

    The function is the same up to rounding. The given model stays as it is, and shares its parameters with the result;
    packed weights are copies: the price is their memory. Layers of other devices and dtypes
    stay plain, all of them do where this build of torch does not pack. For inference: there are no gradients.
    """
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    found = copy.deepcopy(model, shared)
    if not torch.backends.mkldnn.is_available():
        return found
    for module in list(found.modules()):
        if isinstance(module, Block):
            _join(module.attention)
        joined = module.joinable() if isinstance(module, SoftmaxAttention) and module.joined else ()
        for name, child in list(module.named_children()):
            packed = None if child in joined else _packed(child)
            if packed is not None:
                setattr(module, name, packed)
    return found


def _join(attention: SoftmaxAttention) -> None:
    """Queries, keys and values of one attention by one product, where they have the same kind of weights."""
    layers = attention.joinable()
    if not layers or any(type(layer) is not nn.Linear for layer in layers):
        return
    biases = [layer.bias for layer in layers if layer.bias is not None]
    if len(biases) in (0, len(layers)):
        bias = torch.cat(tuple(biases)) if biases else None
        attention.joined = _product(torch.cat(tuple(layer.weight for layer in layers)), bias)


def _packed(module: nn.Module) -> nn.Module | None:
    """The packed form of a module, where it has one."""
    if type(module) is nn.Linear:
        made = _product(module.weight, module.bias)
        if made is not None:
            made.weight = module.weight  # some mechanisms look at it
        return made
    if isinstance(module, VocabularyHead):
        product = _product(module.table, module.bias)
        return None if product is None else PackedHead(module, product)
    return None


def _product(weight: Tensor, bias: Tensor | None) -> PackedLinear | None:
    """A packed layer that was seen to compute the same as the plain one; None where it cannot."""
    if weight.device.type != "cpu" or weight.dtype not in _TOLERANCE:
        return None
    ones = torch.linspace(-1, 1, _TRIAL_ROWS * weight.shape[1]).to(weight.dtype).view(_TRIAL_ROWS, -1)
    with torch.no_grad():
        try:
            made = PackedLinear(weight, bias)
            found = made(ones).float()
        except (RuntimeError, NotImplementedError, AttributeError):
            return None
        expected = functional.linear(ones, weight, bias).float()
    allowed = _TOLERANCE[weight.dtype] * float(expected.abs().max().clamp(min=1))
    return made if float((found - expected).abs().max()) <= allowed else None
