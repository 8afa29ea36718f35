"""Activations by their exact names; GELU in its three forms.

激活函数；GELU 的三种形式。

Source: Hendrycks and Gimpel 2016, arXiv 1606.08415; kexue.fm/archives/7309 derives both approximations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from hanformer.errors import UserError

#: The coefficient of x³ that minimises max|erf(x/√2) − tanh(√(2/π)(x + c·x³))|.
TANH_COEFFICIENT = 0.044715
#: The slope that minimises max|Φ(x) − σ(λx)|, rounded as every published model rounds it.
SIGMOID_SLOPE = 1.702


def gelu(x: Tensor) -> Tensor:
    """The exact form, x·Φ(x) = x·(1 + erf(x/√2))/2.

    GELU 的精确形式（erf）。
    """
    return functional.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """x·(1 + tanh(√(2/π)(x + 0.044715·x³)))/2; at most 4.8e-4 away from the exact form.

    GELU 的 tanh 近似，与精确形式相差不超过 4.8e-4。
    """
    return functional.gelu(x, approximate="tanh")


def gelu_sigmoid(x: Tensor) -> Tensor:
    """x·σ(1.702·x); at most 2.1e-2 away from the exact form.

    GELU 的 sigmoid 近似，与精确形式相差不超过 2.1e-2。
    """
    return x * torch.sigmoid(SIGMOID_SLOPE * x)


def gelu_tanh_by_definition(x: Tensor, coefficient: float = TANH_COEFFICIENT) -> Tensor:
    """The tanh form written out, with any coefficient of x³: the oracle, and the object of the derivation.

    按定义写出的 tanh 形式，三次项系数可变。
    """
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * x * (1 + coefficient * x * x)))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_sigmoid": gelu_sigmoid,
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "linear": lambda x: x,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function of that name.

    按名称取激活函数。

    Raises UserError for a name that is not in ACTIVATIONS.
    """
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
